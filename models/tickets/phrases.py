"""What the generated support tickets are made of. {} is filled with a thing of the label's own."""

OPENINGS = [
    "hello", "hi there", "good morning", "dear team", "hey", "to whom it may concern", "", "", "", "hi support",
]
CLOSINGS = [
    "thanks", "thank you in advance", "please help", "please get back to me", "kind regards", "this is urgent",
    "third time i write", "", "", "", "any news would be welcome", "very disappointed",
]
# Sentences that anyone might write, whatever the trouble.
CHATTER = [
    "i have been a customer for years", "i wrote last week and nobody answered", "it started on monday",
    "i checked the website first", "my colleague has the same problem", "i already paid for this month",
    "i can not log in today either", "my order number is below", "i tried to change it in my account",
    "the app told me to contact you",
]

THINGS = {
    "billing": ["invoice", "bill", "charge", "payment", "subscription fee", "refund", "receipt", "credit card"],
    "technical": ["app", "website", "dashboard", "api", "login page", "export", "update", "search"],
    "shipping": ["parcel", "package", "order", "delivery", "shipment", "box", "courier", "tracking number"],
    "account": ["password", "email address", "profile", "username", "account", "phone number", "login", "address"],
}
SENTENCES = {
    "billing": [
        "i was charged twice for the same {}", "the {} shows the wrong amount", "why is my {} higher than last month",
        "please send me a copy of the {}", "the {} was taken from my bank although i cancelled",
        "when do i get my money back for the {}", "there is tax on the {} that should not be there",
        "my {} was declined but the money is gone", "i do not recognise this {}",
    ],
    "technical": [
        "the {} crashes every time i open it", "the {} is very slow since this morning",
        "i get error 500 from the {}", "the {} shows a blank screen", "the {} does not load on my phone",
        "after the last release the {} stopped working", "the {} freezes when i click save",
        "the {} times out with an error message", "the button in the {} does nothing",
    ],
    "shipping": [
        "my {} has not arrived", "where is my {}", "the {} was left at the wrong door", "the {} arrived damaged",
        "the {} has been stuck in customs for a week", "half of the {} is missing", "can i change the {} date",
        "the {} says delivered but i have nothing", "you sent the {} to my old place",
    ],
    "account": [
        "i want to change my {}", "i can not reset my {}", "my {} is locked", "please delete my {}",
        "someone else is using my {}", "i never got the mail to confirm my {}", "how do i add a second {}",
        "i forgot my {}", "the {} i registered with no longer exists",
    ],
}  # fmt: skip
