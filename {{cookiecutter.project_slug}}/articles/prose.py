"""Words for `seed_articles`: enough grammar that a page of invented articles is pleasant to look at."""

from random import Random

NAMES = [
    "Ada Moreau", "Benedikt Lindqvist", "Chiara Okafor", "Dmitri Alvarez", "Esther Nakamura", "Farid Johansson",
    "Greta Mbeki", "Hiro Castellano", "Ingrid Osei", "Jonas Petrov", "Kemal Duarte", "Leila Haugen",
    "Mateo Varga", "Noor Eriksen", "Oluwaseun Bauer", "Priya Laurent", "Rosa Kowalczyk", "Tomasz Iyer",
]  # fmt: skip

TOPICS = [
    "write-ahead logging", "connection pooling", "streaming replication", "vacuum", "the query planner",
    "partial indexes", "point-in-time recovery", "checkpoints", "read replicas", "prepared statements",
    "failover", "isolation levels", "row locks", "backups", "schema migrations", "slow queries",
]  # fmt: skip

TITLES = [
    "A field guide to {topic}", "What nobody told us about {topic}", "Ten years of {topic}", "In praise of {topic}",
    "{topic}, explained slowly", "How we learned to trust {topic}", "A quiet word about {topic}",
    "The night shift and {topic}", "Three myths about {topic}", "Thinking clearly about {topic}",
    "{topic} for impatient people", "A small experiment with {topic}", "{topic} on a Friday afternoon",
    "Letters to a new colleague: {topic}",
]  # fmt: skip

OPENINGS = [
    "Every team meets {topic} twice: once in the documentation, and once at three in the morning.",
    "We came to {topic} late, and mostly by accident.",
    "There is a drawing on our office wall that claims to explain {topic}. It is wrong in two places.",
    "Ask five engineers about {topic} and you will hear six opinions, all of them firmly held.",
    "For a long time other people looked after {topic}, and we were grateful without knowing it.",
]

SENTENCES = [
    "The graphs were flat for a month, which is the only kind of good news that graphs can give.",
    "A measurement that nobody repeats is an anecdote with a decimal point.",
    "We wrote the expected number down before we ran the test, and were glad of it afterwards.",
    "The primary did what it had promised; it was the promise that we had misread.",
    "Half of the load turned out to be one query, asked by one page, for a number that nobody read.",
    "A replica is a copy with a delay, and most arguments about it are arguments about the delay.",
    "The default was sensible, and so was our reason to change it, and both were ten years old.",
    "Nothing was slow on its own; everything was slow together.",
    "The index had been there all along, waiting for a query that never came.",
    "We deleted four hundred lines that week and missed none of them.",
    "What looked like a slow disk was a long queue in front of a fast one.",
    "The fix was one line, and the explanation of it was two pages, and the pages were worth more.",
    "Reading the log from the first line to the last took an hour and saved a week.",
    "A timeout is a decision about whom to disappoint, so it is better made on purpose.",
    "Somebody had tuned this carefully, for a machine that was retired years ago.",
    "The second attempt was simpler than the first, and the third was the second with better names.",
    "A restore that has never been tried is a hope and not a plan.",
    "It is hard to be clever about a lock, and easy to hold it for less time.",
]

CLOSINGS = [
    "If you remember one thing about {topic}, let it be this: measure first, then be brave.",
    "That is most of what we know about {topic}. The rest we expect to learn the usual way.",
    "We have left {topic} alone since then, which is the highest praise that we can give.",
    "Next time we shall start with the boring explanation. With {topic} it is nearly always the right one.",
]

COMMENTS = [
    "This matches what we saw, almost to the minute.",
    "I wish that I had read this a year ago.",
    "Did you try it with a colder cache? Our numbers only came apart after a restart.",
    "The part about the delay made me go and look at our own dashboards. Thank you, I think.",
    "We did the opposite and regretted it within a week.",
    "Lovely piece. Is there a follow-up planned?",
    "Could you say more about how you measured that?",
    "I printed this and put it next to the drawing on our wall.",
    "Small thing: on our version the default is different, so check yours first.",
    "Our night shift sends its regards.",
    "I disagree about the index, but I enjoyed the argument.",
    "We found the same query, on the same kind of page. Nobody read that number either.",
]


def title(rng: Random, topic: str) -> str:
    text = rng.choice(TITLES).format(topic=topic)
    return text[0].upper() + text[1:]


def body(rng: Random, topic: str) -> str:
    """An opening, two to four paragraphs in which no sentence comes twice, a closing."""
    lengths = [rng.randint(3, 4) for _ in range(rng.randint(2, 4))]
    sentences = iter(rng.sample(SENTENCES, sum(lengths)))
    paragraphs = [" ".join(next(sentences) for _ in range(length)) for length in lengths]
    paragraphs[0] = f"{rng.choice(OPENINGS).format(topic=topic)} {paragraphs[0]}"
    return "\n\n".join([*paragraphs, rng.choice(CLOSINGS).format(topic=topic)])
