"""What the sample of questions is written with: deeds, people, places and times, apart by split.

A deed has sentences that state it and questions for one of its four slots: {who} did
it, to {what}, at {where}, in {when}. A sentence may leave slots out; a question is for one slot
and may name the others.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEEDS", "SLOTS", "Deed", "Deeds"]

SLOTS = ("who", "what", "where", "when")


@dataclass(frozen=True)
class Deed:
    """``statements``: sentences without full stop; ``questions[slot]``: questions for the slot."""

    things: tuple[str, ...]
    statements: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Deeds:
    """All that one split is written with; no split shares a word or a sentence with another."""

    people: tuple[str, ...]
    places: tuple[str, ...]
    times: tuple[str, ...]
    background: tuple[str, ...]
    deeds: tuple[Deed, ...]


def _list(text: str) -> tuple[str, ...]:
    """The items of ``text``, which commas part."""
    return tuple(" ".join(item.split()) for item in text.split(","))


_TRAIN = Deeds(
    people=_list(
        """Marta Klein, Paul Ferris, Irene Novak, Tom Baxter, Nadia Rahman, Victor Hale, Emily
        Stone, Oscar Lund, Rosa Delgado, Henry Watts, Julia Berger, Simon Cole"""
    ),
    places=_list(
        """the flea market, the old harbour, the railway museum, the village hall, the corner
        shop, the botanical garden, the north gate, the public library"""
    ),
    times=_list("January, March, May, 1954, 1968, 1987, late summer, 2003"),
    background=_list(
        """the weather was mild, nobody else was there, it took most of the day, the neighbours
        talked about it for weeks, there was no hurry, everyone was pleased"""
    ),
    deeds=(
        Deed(
            things=_list("the copper kettle, the velvet curtains, the oak cabinet, the fur hat"),
            statements=(
                "{who} bought {what} at {where} in {when}",
                "in {when}, {who} bought {what}",
                "{what} was bought by {who} at {where}",
            ),
            questions={
                "who": ("Who bought {what}?", "By whom was {what} bought?"),
                "what": ("What did {who} buy?", "What did {who} buy at {where}?"),
                "where": ("Where did {who} buy {what}?", "Where was {what} bought?"),
                "when": ("When did {who} buy {what}?", "In what year or month did {who} buy it?"),
            },
        ),
        Deed(
            things=_list("the steam engine, the church clock, the radio set, the water pump"),
            statements=(
                "at {where}, {who} repaired {what} in {when}",
                "{who} repaired {what} in {when}",
                "it was {who} that repaired {what} at {where}",
            ),
            questions={
                "who": ("Who repaired {what}?", "Who was able to repair {what}?"),
                "what": ("What did {who} repair?", "What was repaired by {who}?"),
                "where": ("Where did {who} repair {what}?", "Where was {what} repaired?"),
                "when": ("When was {what} repaired?", "When did {who} repair {what}?"),
            },
        ),
        Deed(
            things=_list("the fishing boat, the wooden fence, the front door, the toy horse"),
            statements=(
                "{who} painted {what} in {when}, at {where}",
                "{what} was painted by {who} in {when}",
                "{who} has painted {what} at {where}",
            ),
            questions={
                "who": ("Who painted {what}?", "Whose work was it to paint {what}?"),
                "what": ("What did {who} paint?", "What was painted by {who}?"),
                "where": ("Where was {what} painted?", "Where did {who} paint {what}?"),
                "when": ("When was {what} painted?", "When did {who} paint {what}?"),
            },
        ),
        Deed(
            things=_list("the silver ring, the house keys, the leather purse, the umbrella"),
            statements=(
                "{who} lost {what} at {where} in {when}",
                "in {when}, {what} was lost by {who}",
                "{who} lost {what} somewhere at {where}",
            ),
            questions={
                "who": ("Who lost {what}?", "Who no longer had {what}?"),
                "what": ("What did {who} lose?", "What was lost by {who}?"),
                "where": ("Where did {who} lose {what}?", "Where was {what} lost?"),
                "when": ("When did {who} lose {what}?", "When was {what} lost?"),
            },
        ),
        Deed(
            things=_list("the photo album, the box of letters, the stray dog, the stolen car"),
            statements=(
                "in {when}, {who} found {what} at {where}",
                "{who} found {what} in {when}",
                "at {where}, {what} was found by {who}",
            ),
            questions={
                "who": ("Who found {what}?", "By whom was {what} found?"),
                "what": ("What did {who} find?", "What did {who} find at {where}?"),
                "where": ("Where did {who} find {what}?", "Where was {what} found?"),
                "when": ("When did {who} find {what}?", "When was {what} found?"),
            },
        ),
        Deed(
            things=_list("the stone bridge, the bird house, the rose arbour, the wine cellar"),
            statements=(
                "{who} built {what} at {where} in {when}",
                "{what} was built by {who} in {when}",
                "the builder of {what} at {where} was {who}",
            ),
            questions={
                "who": ("Who built {what}?", "Who was the builder of {what}?"),
                "what": ("What did {who} build?", "What was built by {who}?"),
                "where": ("Where did {who} build {what}?", "Where was {what} built?"),
                "when": ("When did {who} build {what}?", "When was {what} built?"),
            },
        ),
        Deed(
            things=_list("the apple orchard, the grand piano, the family farm, the stamp book"),
            statements=(
                "{who} sold {what} in {when}, after talks at {where}",
                "in {when}, {who} sold {what} for a good price",
                "at {where}, {who} sold {what}",
            ),
            questions={
                "who": ("Who sold {what}?", "By whom was {what} sold?"),
                "what": ("What did {who} sell?", "What was sold by {who}?"),
                "where": ("Where did {who} sell {what}?", "Where was {what} sold?"),
                "when": ("When did {who} sell {what}?", "When was {what} sold?"),
            },
        ),
        Deed(
            things=_list("the short opera, the travel diary, the song cycle, the radio play"),
            statements=(
                "{who} wrote {what} in {when}, mostly at {where}",
                "{what} was written by {who} in {when}",
                "at {where}, {who} wrote {what}",
            ),
            questions={
                "who": ("Who wrote {what}?", "Who is the author of {what}?"),
                "what": ("What did {who} write?", "What is {who} the author of?"),
                "where": ("Where did {who} write {what}?", "Where was {what} written?"),
                "when": ("When did {who} write {what}?", "When was {what} written?"),
            },
        ),
    ),
)

_VALIDATION = Deeds(
    people=_list(
        """Clara Moss, Edgar Finch, Lena Vogt, Martin Osei, Priya Nair, Walter Quinn, Agnes
        Holm, Dario Conti"""
    ),
    places=_list(
        """the grammar school, the customs office, the open-air theatre, the mill pond, the
        post office, the ski lift"""
    ),
    times=_list("February, June, 1949, 1976, 1991, early autumn"),
    background=_list(
        """few people took notice, the local paper had a story on it, snow lay on the roofs,
        this was no surprise"""
    ),
    deeds=(
        Deed(
            things=_list("the marble statue, the film archive, the chess set, the brass lamp"),
            statements=(
                "{who} restored {what} at {where}, which was in {when}",
                "by {when}, {who} had restored {what}",
                "the person who restored {what} at {where} is {who}",
            ),
            questions={
                "who": ("Who restored {what}?", "Which person restored {what}?"),
                "what": ("What did {who} restore?", "Which thing was restored by {who}?"),
                "where": ("At which place was {what} restored?", "Where did {who} restore {what}?"),
                "when": ("When did {who} restore {what}?", "At what time was {what} restored?"),
            },
        ),
        Deed(
            things=_list("the blue folder, the gold watch, the sheet music, the secret map"),
            statements=(
                "during {when}, {what} was hidden at {where} by {who}",
                "{who} hid {what} during {when}",
                "{who} went to {where} and hid {what}",
            ),
            questions={
                "who": ("Who hid {what}?", "Which person was it who hid {what}?"),
                "what": ("What did {who} hide?", "Which thing did {who} hide?"),
                "where": ("Where did {who} hide {what}?", "At which place was {what} hidden?"),
                "when": ("When was {what} hidden?", "At what time did {who} hide {what}?"),
            },
        ),
        Deed(
            things=_list("the puppet show, the charity run, the poetry prize, the cooking class"),
            statements=(
                "{what}, organised by {who}, took place at {where} during {when}",
                "{who} organised {what} for the first time during {when}",
                "thanks to {who}, who organised it, {what} came to {where}",
            ),
            questions={
                "who": ("Who organised {what}?", "Which person organised {what}?"),
                "what": ("What did {who} organise?", "Which event did {who} organise?"),
                "where": ("Where did {what} take place?", "At which place was {what} held?"),
                "when": ("When did {who} organise {what}?", "At what time was {what} held?"),
            },
        ),
        Deed(
            things=_list("the black pony, the sailing dinghy, the rare orchid, the barrel organ"),
            statements=(
                "{what} that {who} inherited during {when} stood at {where}",
                "{who} inherited {what}, and this was during {when}",
                "{who} inherited {what} and keeps it at {where}",
            ),
            questions={
                "who": ("Who inherited {what}?", "Which person inherited {what}?"),
                "what": ("What did {who} inherit?", "Which thing was inherited by {who}?"),
                "where": ("At which place was {what}?", "Where is {what} of {who}?"),
                "when": ("When did {who} inherit {what}?", "At what time was {what} inherited?"),
            },
        ),
    ),
)

_TEST = Deeds(
    people=_list(
        """Olga Brandt, Felix Moreau, Ruth Ansah, Ivan Petrov, Sophie Lang, Hugo Marsh, Zara
        Malik, Erik Dahl"""
    ),
    places=_list(
        """the bus depot, the fire station, the court house, the tea room, the riding stable,
        the city archive"""
    ),
    times=_list("April, October, 1938, 1962, 1999, mid-winter"),
    background=_list(
        """a large crowd came along, that is how the story goes, rain fell the whole time, some
        still doubt it"""
    ),
    deeds=(
        Deed(
            things=_list("the hymn book, the peace treaty, the love poem, the spice recipe"),
            statements=(
                "translating {what} at {where} kept {who} busy through {when}",
                "{what}, through {when}, was being translated by {who}",
                "{who} sat at {where} translating {what}",
            ),
            questions={
                "who": (
                    "What is the name of the one translating {what}?",
                    "Who translated {what}?",
                ),
                "what": ("What has {who} translated?", "What was {who} busy translating?"),
                "where": (
                    "Where has {who} translated {what}?",
                    "Where did translating {what} go on?",
                ),
                "when": ("When has {who} translated {what}?", "When did translating {what} go on?"),
            },
        ),
        Deed(
            things=_list("the white horse, the tabby cat, the grey donkey, the parrot"),
            statements=(
                "{who} took care of {what} through {when}; they met daily at {where}",
                "through {when}, care of {what} was left to {who}",
                "{what} at {where} is being looked after by {who}",
            ),
            questions={
                "who": ("Who has been looking after {what}?", "Who took care of {what}?"),
                "what": ("Which animal does {who} look after?", "Of what did {who} take care?"),
                "where": ("Where does {who} look after {what}?", "Where is {what} looked after?"),
                "when": ("When has {who} been looking after {what}?", "When was {what} cared for?"),
            },
        ),
        Deed(
            things=_list("the carved mask, the pearl necklace, the old globe, the war medal"),
            statements=(
                "a thief, {who}, carried {what} away from {where} as {when} began",
                "as {when} began, {who} stole {what}",
                "from {where}, {who} stole {what}",
            ),
            questions={
                "who": ("Who stole {what}?", "What is the name of the one who stole {what}?"),
                "what": ("What has {who} stolen?", "What was {who} the thief of?"),
                "where": ("From where has {who} stolen {what}?", "From where was {what} stolen?"),
                "when": ("When has {who} stolen {what}?", "When was {what} stolen?"),
            },
        ),
        Deed(
            things=_list("the glass roof, the tunnel, the ferry pier, the bell tower"),
            statements=(
                "{who} drew the plans of {what} through {when}, in an office at {where}",
                "through {when}, {who} was designing {what}",
                "at {where} hang the plans of {what}, and {who} made them",
            ),
            questions={
                "who": ("Who designed {what}?", "What is the name of the designer of {what}?"),
                "what": ("What has {who} designed?", "What was {who} the designer of?"),
                "where": ("Where has {who} designed {what}?", "Where was {what} designed?"),
                "when": ("When has {who} designed {what}?", "When was {what} designed?"),
            },
        ),
    ),
)

DEEDS = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}
