"""What the sentiment sample is written with: words and sentences, apart for each split.

``things[thing]`` = its parts (countable, after *the*), and facts, which tell no opinion.
``words[symbol][class]``:

    adjective   before a noun or after *was*
    noun        with its article, after *was*
    deed        what a part did to the writer, in the past tense
    verdict     a sentence that judges the whole

Each kind of sentence is a list of templates. ``plain``, ``turned`` and ``closing`` serve the
positive and the negative class alike: {adjective} is a word of the review's own class,
{other_adjective} one of the opposite class. In ``fair`` it is a neutral one; where a template
needs a class of its own it names it, as in {good_adjective}, {bad_noun}, {good_plain}.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OPINIONS", "Opinions"]


@dataclass(frozen=True)
class Opinions:
    """All that one split is written with; no split shares a word or a template with another."""

    things: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    background: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]
    words: dict[str, dict[str, tuple[str, ...]]]
    plain: tuple[str, ...]
    turned: tuple[str, ...]
    closing: tuple[str, ...]
    fair: tuple[str, ...]
    mixed: tuple[str, ...]


def _list(text: str) -> tuple[str, ...]:
    """The items of ``text``, which commas part."""
    return tuple(" ".join(item.split()) for item in text.split(","))


_TRAIN = Opinions(
    things={
        "film": (
            _list("plot, leading actor, ending, soundtrack, camera work"),
            _list(
                """the film runs for {number} hours, the film is set in Norway, it was shot in
                black and white, the leading actor plays a postman, the plot covers {number} years,
                the soundtrack is played on a piano"""
            ),
        ),
        "novel": (
            _list("first chapter, heroine, translation, story, dust jacket"),
            _list(
                """the novel has {number} hundred pages, the story is told by a sailor,
                the heroine lives on an island, the dust jacket is {colour}, the first chapter is
                {number} pages long, the novel appeared in {month}"""
            ),
        ),
        "restaurant": (
            _list("soup, waiter, wine list, terrace, main course"),
            _list(
                """the restaurant is next to the station, the terrace faces the river,
                they close at {number} on {day}, the tables are made of oak, the menu changes in
                {month}, the waiter wrote the order on a {colour} pad"""
            ),
        ),
        "hotel": (
            _list("breakfast, swimming pool, receptionist, bathroom, mattress"),
            _list(
                """the hotel has {number} floors, breakfast starts at {number}, the bathroom has
                {colour} tiles, the swimming pool is in the basement, we stayed for {number}
                nights, the hotel stands opposite the church"""
            ),
        ),
        "phone": (
            _list("battery, touch screen, loudspeaker, camera, casing"),
            _list(
                """the phone comes in {colour} and {colour}, the phone has {number} sockets,
                the touch screen measures six inches, the loudspeaker sits at the bottom,
                the battery takes {number} hours to charge, the phone came out in {month}"""
            ),
        ),
        "bus tour": (
            _list("guide, driver, route, lunch stop, audio system"),
            _list(
                """the bus tour starts at the town hall, the route passes {number} bridges,
                the bus is {colour}, the lunch stop is at noon, there are tours from {month} to
                {month}, the guide speaks {number} languages"""
            ),
        ),
        "language course": (
            _list("teacher, textbook, pace, final test, classroom"),
            _list(
                """the language course takes {number} weeks, lessons are on {day} and {day},
                the classroom is on the second floor, the textbook has {number} units,
                the final test is in {month}, there were {number} people in my group"""
            ),
        ),
        "podcast": (
            _list("host, interview, theme tune, guest, sound quality"),
            _list(
                """a new part appears every {day}, the interview is about bridges, the podcast has
                run since {month}, the guest is a geologist, each part lasts half an hour,
                the theme tune was written for {number} flutes"""
            ),
        ),
        "vacuum cleaner": (
            _list("motor, cable, brush, dust bag, handle"),
            _list(
                """the vacuum cleaner has {number} settings, the cable is {number} metres long,
                the handle is {colour}, it is made in Poland, it came with {number} bags,
                the brush is {number} inches wide"""
            ),
        ),
        "ski resort": (
            _list("main slope, chairlift, village, rental shop, ski school"),
            _list(
                """the ski resort lies north of the pass, the chairlift opens at {number}, there are
                {number} slopes, the village has one church, the season ends in {month},
                the rental shop is {colour} and stands by the road"""
            ),
        ),
        "comedy show": (
            _list("opening act, stage set, venue, finale, presenter"),
            _list(
                """the comedy show has {number} acts, it begins at {number}, the venue is an old
                tram depot, the curtain is {colour}, the show is on tour until {month},
                the presenter comes from Wales"""
            ),
        ),
        "garden centre": (
            _list("rose bed, car park, tool shed, greenhouse, cashier"),
            _list(
                """the garden centre sells seeds and soil, it is by the ring road, the greenhouse
                is {number} metres high, they open at {number}, the tool shed has a {colour} door,
                bulbs are sold from {month}"""
            ),
        ),
    },
    background=(
        "a friend told us about the {thing}",
        "I had read about the {thing} in the paper",
        "it was our first time",
        "we had {number} free days in {month}",
        "it rained on {day}",
        "my aunt paid with a card",
        "we took {number} children along",
        "my brother chose the {thing} in {month}",
        "this was on a {day} in {month}",
        "I am writing this {number} weeks later",
    ),
    slots={
        "day": _list("Monday, Wednesday, Friday"),
        "month": _list("January, March, May, August"),
        "number": _list("two, three, five, eight"),
        "colour": _list("red, blue, green, grey"),
        "very": _list("very, really, truly, so, simply, just"),
    },
    words={
        "adjective": {
            "positive": _list(
                """excellent, superb, wonderful, delightful, great, lovely, charming, impressive,
                splendid, brilliant, terrific, good, enjoyable, perfect, pleasant, refreshing,
                beautiful, remarkable, admirable, flawless, engaging, satisfying, memorable,
                first-class, inspired, magical, fascinating, attractive, worthwhile, likeable,
                well made, well thought out"""
            ),
            "negative": _list(
                """terrible, awful, poor, dreadful, dull, disappointing, bad, annoying, tedious,
                clumsy, unpleasant, shabby, frustrating, sloppy, horrible, tiresome, useless,
                boring, ugly, weak, miserable, irritating, unbearable, feeble, second-rate,
                lifeless, disagreeable, depressing, off-putting, unattractive, pointless,
                badly made"""
            ),
            "neutral": _list(
                """ordinary, acceptable, passable, unremarkable, adequate, middling,
                conventional, unexceptional, standard, satisfactory"""
            ),
        },
        "noun": {
            "positive": _list(
                """a triumph, a pleasure, a treat, a gem, a joy, a success, a delight, a winner,
                a highlight"""
            ),
            "negative": _list(
                """a disaster, a disappointment, a failure, a flop, a mess, a waste of money,
                a letdown, a chore, a bad joke"""
            ),
            "neutral": _list(
                """a mixed bag, a middle-of-the-road affair, a routine effort, a compromise,
                a bit of both"""
            ),
        },
        "deed": {
            "positive": _list(
                """won me over, delighted us, made my day, exceeded my hopes, charmed everybody,
                put a smile on my face, kept us happy, impressed me, moved me deeply"""
            ),
            "negative": _list(
                """let me down, annoyed us, spoiled my day, fell short of my hopes, bored everybody,
                put me in a bad mood, got on my nerves, disappointed me, made us angry"""
            ),
            "neutral": _list(
                """did its job, left me neither warm nor cold, was what one expects,
                gave no cause for praise or complaint, was much like any other"""
            ),
        },
        "verdict": {
            "positive": (
                "I would recommend it to anyone",
                "it was worth every penny",
                "five stars from me",
                "we were sorry when it was over",
                "I told all my friends to try it",
                "I would do it again tomorrow",
                "I have found a new favourite",
            ),
            "negative": (
                "I would not wish it on anyone",
                "it was not worth a penny",
                "one star from me",
                "we were glad when it was over",
                "I told all my friends to avoid it",
                "I want my money back",
                "I regret every minute of it",
            ),
            "neutral": (
                "I can take it or leave it",
                "three stars from me",
                "I would neither praise nor condemn it",
                "it all evens out in the end",
                "I am still of two minds about it",
            ),
        },
    },
    plain=(
        "the {part} was {very} {adjective}",
        "the {part} {deed}",
        "I found the {part} {adjective} and the {part} {adjective}",
        "a {adjective} {part}, a {adjective} {part}",
        "everything about the {part} was {adjective}",
        "the {part} alone was {noun}",
        "I could go on for hours about the {very} {adjective} {part}",
        "the {part} {deed}, and the {part} was {adjective} too",
        "both the {part} and the {part} were {very} {adjective}",
        "the {adjective} {part} {deed}",
        "my wife thought the {part} {adjective}, and I agree with her",
        "what a {adjective} {part}",
    ),
    turned=(
        "there was nothing {other_adjective} about the {part}",
        "the {part} was anything but {other_adjective}",
        "the {part} was not {other_noun} but {noun}",
        "the {part} was not {other_adjective}, it was {adjective}",
        "I expected {other_noun} and got {noun}",
        "I expected the {part} to be {other_adjective}, but it {deed}",
        "the reviews had promised {other_noun}, but the {part} {deed}",
        "my sister called the {part} {other_adjective}, but she is wrong: it was {adjective}",
        "the {part} used to be {other_adjective}, but now it is {very} {adjective}",
        "last time the {part} was {other_adjective}, this time it was {noun}",
        "at first I thought the {part} {other_adjective}, then it {deed}",
        "nobody at our table thought the {part} {other_adjective}",
        "forget all you have heard about the {other_adjective} {part}: it was {adjective}",
    ),
    closing=(
        "{verdict}",
        "the {thing} was {noun}",
        "what a {adjective} {thing}",
        "it was {noun} to me and {noun} to my family",
        "this {thing} {deed}",
        "everything was {very} {adjective}: {verdict}",
    ),
    fair=(
        "the {part} was {adjective}",
        "the {part} {deed}",
        "the {thing} was {noun}",
        "{verdict}",
        "a {adjective} {part} and a {adjective} {part}",
        "the {part} was neither {good_adjective} nor {bad_adjective}",
        "it was not {good_noun}, and it was not {bad_noun} either",
        "I expected {good_noun} and got something {adjective}",
        "I expected {bad_noun}, but the {part} was {adjective}",
        "the {part} {deed}: {verdict}",
        "I found the {part} {adjective} and the {part} {adjective}",
    ),
    mixed=(
        "{good_plain}, but {bad_plain}",
        "{bad_plain}, but {good_plain}",
        "{good_plain}, and yet {bad_plain}",
        "{good_plain}. At the same time, {bad_plain}",
        "{bad_plain}. Still, {good_plain}",
        "the {part} {good_deed}, while the {part} {bad_deed}",
        "as many {good_adjective} moments as {bad_adjective} ones",
        "I liked the {good_adjective} {part}, I disliked the {bad_adjective} {part}",
        "half of it was {bad_noun}, half of it {good_noun}",
    ),
)

_VALIDATION = Opinions(
    things={
        "concert": (
            _list("singer, encore, string section, programme booklet, conductor"),
            _list(
                """the interval took twenty minutes, the string section sits to the left,
                tickets are printed on {tint} paper, the singer was born in Vienna,
                the programme booklet lists nine pieces"""
            ),
        ),
        "bicycle": (
            _list("saddle, gear shift, frame, brake, bell"),
            _list(
                """the wheels measure 28 inches, the frame is painted {tint}, a lock is part of
                the delivery, the saddle can be set to six heights, the bell is on the right side"""
            ),
        ),
        "bakery": (
            _list("rye bread, cheesecake, shop window, apple tart, counter"),
            _list(
                """the bakery stays closed on {weekday}, flour arrives from a mill in Kent,
                customers queue along the wall, the rye bread weighs a kilo, the counter is made
                of marble"""
            ),
        ),
        "museum": (
            _list("east wing, photo gallery, gift shop, permanent collection, cloakroom"),
            _list(
                """visitors enter through the courtyard, most exhibits date from Roman times,
                the east wing was added in {season}, the cloakroom is beside the stairs,
                the gift shop takes foreign coins"""
            ),
        ),
        "campsite": (
            _list("shower block, fireplace, lake shore, playground, kiosk"),
            _list(
                """each pitch carries a number, cars stay outside the gate, the kiosk sells ice and
                gas, the lake shore is a short walk away, tents are put up until {season}"""
            ),
        ),
    },
    background=(
        "our neighbours gave us the address of the {thing}",
        "we came on a {weekday} with my parents",
        "someone at work mentioned the {thing}",
        "I went there by train in {season}",
    ),
    slots={
        "weekday": _list("Sunday, Tuesday"),
        "season": _list("spring, winter"),
        "tint": _list("yellow, purple, orange"),
        "very": _list("utterly, thoroughly, extremely"),
    },
    words={
        "adjective": {
            "positive": _list(
                """marvellous, fantastic, outstanding, magnificent, amazing, exceptional, gorgeous,
                appealing, spectacular, fabulous, adorable, thrilling"""
            ),
            "negative": _list(
                """atrocious, lousy, hideous, pathetic, abysmal, dismal, wretched, nasty,
                appalling, shoddy, dreary, disgusting"""
            ),
            "neutral": _list("okay, typical, run-of-the-mill, normal, moderate"),
        },
        "noun": {
            "positive": _list("a masterpiece, a marvel, a blessing, a sensation, a miracle"),
            "negative": _list("a catastrophe, a nightmare, a fiasco, a shambles, a dud"),
            "neutral": _list("something in between, an everyday matter"),
        },
        "deed": {
            "positive": _list(
                """surpassed our dreams, made me laugh with happiness, enchanted the whole group,
                lifted my spirits"""
            ),
            "negative": _list(
                "drove me up the wall, infuriated the whole group, wore me out, made me cringe"
            ),
            "neutral": _list("served its purpose, met the minimum and no more"),
        },
        "verdict": {
            "positive": (
                "we have already booked another date",
                "thank you, thank you, thank you",
                "anybody will fall in love with it",
            ),
            "negative": (
                "stay away if you can",
                "we shall never return",
                "anybody will feel cheated by it",
            ),
            "neutral": (
                "opinions will differ",
                "I have no strong feelings about it",
                "there are arguments for it and against it",
            ),
        },
    },
    plain=(
        "from the start, the {part} proved {very} {adjective}",
        "such a {adjective} {part}, such a {adjective} {part}",
        "how {adjective} the {part} is! The {part} {deed}",
        "most of all, the {adjective} {part} {deed}",
        "we agreed that the {part} is {noun}",
        "seeing the {part} {deed}",
        "I call that a {very} {adjective} {part}",
    ),
    turned=(
        "{other_adjective}? Far from it: the {part} {deed}",
        "instead of {other_noun} we were given {noun}",
        "I was prepared for a {other_adjective} {part}, yet it {deed}",
        "do not believe those who say that the {part} is {other_adjective}; it is {adjective}",
        "under the old owners it was {other_adjective}; today the {part} is {adjective}",
        "no trace of a {other_adjective} {part}; we found a {adjective} one",
    ),
    closing=(
        "{verdict}",
        "this {thing} is {noun}; {verdict}",
        "never before have I seen a {thing} as {adjective} as this",
        "it is {noun}, nothing less",
    ),
    fair=(
        "the {part} seemed {adjective}, like the {part}",
        "all in all it is {noun}; {verdict}",
        "as for the {part}, it {deed}",
        "the {part} is {adjective}, no more and no less",
    ),
    mixed=(
        "{good_plain}. However, {bad_plain}",
        "{bad_plain}. In its defence, {good_plain}",
        "although the {part} {good_deed}, the {part} {bad_deed}",
    ),
)

_TEST = Opinions(
    things={
        "board game": (
            _list("rulebook, playing field, scoring system, card deck, timer"),
            _list(
                """up to six people sit round the table, every player gets a colour, the rulebook
                is printed in {language}, the card deck has a picture of a ship, a round ends when
                the timer rings"""
            ),
        ),
        "laptop": (
            _list("keyboard, trackpad, hinge, cooling fan, webcam"),
            _list(
                """charging happens through the left side, the lid carries a logo, the keyboard has
                a {language} layout, the webcam sits above the display, my office bought one in
                {year}"""
            ),
        ),
        "ferry": (
            _list("cabin, canteen, upper deck, snack bar, boarding procedure"),
            _list(
                """departure is from pier seven, lorries board before everybody else, the ferry
                was built in {year}, the crew speaks {language}, each cabin sleeps four"""
            ),
        ),
        "gym": (
            _list("changing room, trainer, rowing machine, yoga class, sauna"),
            _list(
                """members use a plastic key, towels cost extra, the gym moved to {town} in {year},
                the sauna is heated to eighty degrees, the yoga class is held in {language}"""
            ),
        ),
        "cookbook": (
            _list("page design, index, dessert section, binding, introduction"),
            _list(
                """recipes are sorted by ingredient, quantities are in grams, the author lives near
                {town}, the index is at the back, this edition dates from {year}"""
            ),
        ),
    },
    background=(
        "my colleagues mentioned the {thing} in {year}",
        "I stumbled upon the {thing} by chance",
        "we are talking about late autumn",
        "somebody in {town} showed me the {thing}",
    ),
    slots={
        "year": _list("2015, 2017, 2019"),
        "language": _list("German, Spanish, Welsh"),
        "town": _list("Bristol, Geneva, York"),
        "very": _list("absolutely, incredibly, altogether"),
    },
    words={
        "adjective": {
            "positive": _list(
                """stunning, exquisite, sublime, glorious, awesome, phenomenal, nice, top-notch,
                captivating, heavenly, breathtaking"""
            ),
            "negative": _list(
                """horrendous, ghastly, rotten, grim, deplorable, lamentable, insufferable,
                horrid, pitiful, substandard, vile, disgraceful"""
            ),
            "neutral": _list("average, commonplace, usual, fair"),
        },
        "noun": {
            "positive": _list("a wonder, a dream, a jewel, a feast, a stroke of genius"),
            "negative": _list("an ordeal, a debacle, a travesty, an embarrassment, a swindle"),
            "neutral": _list("a case of fifty-fifty, neither one thing nor the other"),
        },
        "deed": {
            "positive": _list(
                "amazed us in the best way, made our hearts sing, left me smiling, warmed my heart"
            ),
            "negative": _list("made me wince, exasperated us, left me fuming, gave me a headache"),
            "neutral": _list("was neither here nor there, could go either way"),
        },
        "verdict": {
            "positive": (
                "hats off to those involved",
                "count me among the fans",
                "I love it more every time",
            ),
            "negative": (
                "shame on those involved",
                "spare yourself the trouble",
                "I hate it more every time",
            ),
            "neutral": (
                "make of it what you will",
                "I see both sides",
                "some will like it and some will not",
            ),
        },
    },
    plain=(
        "we shall remember the {part} as {noun}",
        "seldom have I come across a {part} that is {very} {adjective}",
        "{adjective} {part}, {adjective} {part}",
        "not only the {part} but also the {part} {deed}",
        "if you ask me, the {part} is {adjective}",
        "thanks to the {part}, which is {adjective}, I know what {noun} is",
        "even the {part} {deed}",
    ),
    turned=(
        "the {part} is by no means {other_adjective}; in truth it {deed}",
        "not one {other_adjective} minute, and a {part} that {deed}",
        "contrary to what one hears, the {part} is not {other_adjective}; it is {adjective}",
        "what had sounded like {other_noun} turned out to be {noun}",
        "gone are the days of the {other_adjective} {part}: the new one is {adjective}",
        "how can one call a {part} {other_adjective} that {deed}",
    ),
    closing=(
        "{verdict}",
        "in short, {noun}",
        "this is {very} {adjective}, and I mean it; {verdict}",
        "of all I know of its kind, this {thing} is the one that {deed}",
    ),
    fair=(
        "it is {noun}, the {part} being {adjective}",
        "apart from its name, the {part} {deed}",
        "you get a {part} that is {adjective}; {verdict}",
        "I would say that the {part} is {adjective}",
    ),
    mixed=(
        "on the one hand, {good_plain}; on the other, {bad_plain}",
        "{bad_plain}. Then again, {good_plain}",
        "you get a {part} that is {good_adjective} and a {part} that is {bad_adjective}",
    ),
)

OPINIONS = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}
