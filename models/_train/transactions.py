"""Generated card transactions, for the fraud and anomaly models.

A card has an owner with habits: a usual amount, usual hours, a home. Honest transactions follow the habits, with a few
honest oddities (holidays, big purchases); fraud breaks some of them, never all, so that no feature alone gives it away.
"""

import numpy as np

FEATURES = [
    "amount",                 # in the card's currency
    "amount_over_usual",      # amount / the owner's usual amount
    "hour",                   # of the day, local time, 0..23
    "weekend",                # 0 or 1
    "km_from_home",           # distance of the merchant
    "minutes_since_last",     # since the card's last transaction
    "count_last_hour",        # the card's transactions in the last hour
    "card_present",           # 1 chip or contactless, 0 online
    "foreign",                # 1 when the merchant is abroad
    "merchant_risk",          # 0..1, share of the merchant's past transactions that were charged back, scaled
    "account_age_days",
    "failed_pins_last_day",
]


def generate(rng: np.random.Generator, rows: int, fraud_share: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Features FP32 [rows, 12] in the order of FEATURES, and 1 for fraud, 0 for honest, [rows]."""
    fraud = rng.random(rows) < fraud_share

    def either(honest, fraudulent, reach):
        """`fraudulent` values in a share `reach` of the frauds, `honest` values elsewhere."""
        return np.where(fraud & (rng.random(rows) < reach), fraudulent, honest)

    usual = rng.lognormal(3.3, 0.6, rows)
    over = either(rng.lognormal(0.0, 0.7, rows), rng.lognormal(1.6, 0.8, rows), 0.7)
    hour = either(rng.normal(14.5, 4.5, rows), rng.normal(2.5, 3.0, rows), 0.5) % 24
    travelling = either(rng.random(rows) < 0.04, rng.random(rows) < 0.7, 0.8)
    km = np.where(travelling, rng.lognormal(6.5, 1.0, rows), rng.lognormal(1.5, 1.1, rows))
    last = either(rng.exponential(900, rows), rng.exponential(12, rows), 0.6)
    count = either(rng.poisson(0.25, rows), 1 + rng.poisson(3.0, rows), 0.6)
    present = either(rng.random(rows) < 0.65, rng.random(rows) < 0.1, 0.8)
    risk = either(rng.beta(1.2, 12, rows), rng.beta(3, 5, rows), 0.7)
    age = either(rng.gamma(2.5, 500, rows), rng.gamma(1.2, 200, rows), 0.4)
    pins = either(rng.poisson(0.03, rows), rng.poisson(1.2, rows), 0.35)
    foreign = travelling & (rng.random(rows) < 0.5)
    weekend = rng.random(rows) < 2 / 7

    columns = [usual * over, over, np.floor(hour), weekend, km, last, count, present, foreign, risk, age, pins]
    return np.stack(columns, axis=1).astype(np.float32).round(3), fraud.astype(np.int64)
