"""What the pair sample is written with: topics, names and sentences, apart for each split.

A topic knows which group each of its members belongs to (a heron is a bird, Lyon is in France,
who is furious is angry), and has sentences that tell of a {member} and ones that claim a {group},
both about {who}.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAIMS", "Claims", "Topic"]


@dataclass(frozen=True)
class Topic:
    """``groups[group]`` = its members; ``frames`` = (text templates, claim templates)."""

    groups: dict[str, tuple[str, ...]]
    frames: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Claims:
    """All that one split is written with; no split shares a word or a frame with another."""

    names: tuple[str, ...]
    topics: tuple[Topic, ...]


def _list(text: str) -> tuple[str, ...]:
    """The items of ``text``, which commas part."""
    return tuple(" ".join(item.split()) for item in text.split(","))


_TRAIN = Claims(
    names=_list(
        """Marta, Paul, Irene, Tom, Nadia, Victor, Emily, Oscar, Rosa, Henry, Julia, Simon,
        Bella, George, Hannah, Leo"""
    ),
    topics=(
        Topic(
            groups={
                "musical instrument": _list("cello, trumpet, harp, clarinet, banjo, trombone"),
                "bird": _list("heron, owl, robin, swan, sparrow, blackbird"),
                "vehicle": _list("tractor, taxi, lorry, minibus, fire engine, motorcycle"),
                "fruit": _list("pear, plum, mango, cherry, banana, apricot"),
                "tool": _list("hammer, chisel, saw, screwdriver, pair of pliers, drill"),
                "tree": _list("birch, willow, chestnut, oak, beech, spruce"),
                "piece of clothing": _list("jacket, skirt, shirt, jumper, pair of trousers, coat"),
                "piece of furniture": _list("wardrobe, armchair, bookcase, stool, sofa, desk"),
                "insect": _list("wasp, beetle, ant, grasshopper, mosquito, butterfly"),
                "vegetable": _list("carrot, cabbage, leek, onion, turnip, cauliflower"),
                "weapon": _list("sword, rifle, dagger, crossbow, pistol, spear"),
                "toy": _list("doll, kite, teddy bear, yo-yo, rocking horse, spinning top"),
                "kitchen utensil": _list("ladle, whisk, rolling pin, sieve, frying pan, grater"),
                "building": _list("chapel, castle, lighthouse, cottage, windmill, skyscraper"),
            },
            frames=(
                ("{who} drew a {member}", "{who}'s drawing shows a {group}"),
                ("{who} took a picture of a {member}", "there is a {group} in {who}'s picture"),
                ("{who} wrote a poem about a {member}", "the poem by {who} is about a {group}"),
                ("{who} pointed at a {member}", "{who} pointed at a {group}"),
                ("{who} dreamed of a {member}", "there was a {group} in {who}'s dream"),
                ("it was a {member} that {who} saw first", "{who} saw a {group} first"),
                (
                    "{who} told us a joke about a {member}",
                    "the joke that {who} told was about a {group}",
                ),
            ),
        ),
        Topic(
            groups={
                "health care": _list("surgeon, nurse, dentist, midwife"),
                "education": _list("head teacher, lecturer, primary school teacher, tutor"),
                "agriculture": _list("shepherd, dairy farmer, fruit grower, beekeeper"),
                "the law": _list("judge, barrister, solicitor, public prosecutor"),
                "construction": _list("bricklayer, roofer, plasterer, crane operator"),
                "the army": _list("sergeant, colonel, infantry officer, tank commander"),
                "the theatre": _list("stage designer, actor, prompter, drama director"),
            },
            frames=(
                ("{who} is a {member}", "{who} works in {group}"),
                ("{who} has been a {member} for years", "{who} earns a living in {group}"),
                ("{who} wants to become a {member}", "{who} is looking for a job in {group}"),
                ("{who} used to be a {member}", "{who} has experience in {group}"),
            ),
        ),
        Topic(
            groups={
                "France": _list("Lyon, Marseille, Bordeaux, Paris"),
                "Germany": _list("Hamburg, Munich, Cologne, Berlin"),
                "Italy": _list("Naples, Turin, Milan, Rome"),
                "Japan": _list("Osaka, Kyoto, Tokyo, Hiroshima"),
                "Spain": _list("Seville, Valencia, Madrid, Barcelona"),
                "Canada": _list("Toronto, Montreal, Vancouver, Ottawa"),
                "India": _list("Mumbai, Delhi, Kolkata, Bangalore"),
                "Egypt": _list("Cairo, Alexandria, Luxor, Giza"),
            },
            frames=(
                ("{who} has moved to {member}", "{who} lives in {group} now"),
                ("{who} was born in {member}", "{who} comes from {group}"),
                ("{who} sent us a card from {member}", "{who} was in {group}"),
                ("{who} is flying to {member}", "{who} is on the way to {group}"),
            ),
        ),
        Topic(
            groups={
                "angry": _list("furious, enraged, livid, cross"),
                "happy": _list("delighted, joyful, glad, cheerful"),
                "tired": _list("exhausted, sleepy, weary, worn out"),
                "afraid": _list("terrified, scared, frightened, panic-stricken"),
                "rich": _list("wealthy, well-to-do, affluent, a millionaire"),
                "hungry": _list("starving, famished, in need of a meal, peckish"),
                "calm": _list("relaxed, composed, serene, at ease"),
            },
            frames=(
                ("{who} was {member}", "{who} was {group}"),
                ("everyone could see that {who} was {member}", "{who} seemed to be {group}"),
                ("{who} said, 'I am {member}'", "{who} claimed to be {group}"),
            ),
        ),
    ),
)

_VALIDATION = Claims(
    names=_list("Clara, Martin, Olga, Peter, Sophie, Walter"),
    topics=(
        Topic(
            groups={
                "fish": _list("trout, herring, pike, tuna"),
                "flower": _list("tulip, daffodil, orchid, lily"),
                "boat": _list("canoe, yacht, dinghy, gondola"),
                "kind of bread": _list("baguette, bagel, ciabatta, pretzel"),
                "dog": _list("poodle, terrier, spaniel, greyhound"),
                "hat": _list("beret, bonnet, sombrero, bowler"),
            },
            frames=(
                ("on the wall {who} had painted a {member}", "{who} painted a {group} on the wall"),
                (
                    "{who} told a story in which a {member} gets lost",
                    "a {group} gets lost in the story that {who} told",
                ),
                ("{who} has a tattoo of a {member}", "{who}'s tattoo represents a {group}"),
            ),
        ),
        Topic(
            groups={
                "finance": _list("banker, accountant, stockbroker, auditor"),
                "music": _list("violinist, drummer, opera singer, pianist"),
                "aviation": _list("pilot, flight attendant, air traffic controller"),
                "sport": _list("footballer, goalkeeper, boxer, swimming coach"),
            },
            frames=(
                ("{who} makes money as a {member}", "the field that {who} belongs to is {group}"),
                ("{who} was trained as a {member}", "{who} was trained for a career in {group}"),
            ),
        ),
        Topic(
            groups={
                "Russia": _list("Moscow, Saint Petersburg, Vladivostok"),
                "Portugal": _list("Lisbon, Porto, Coimbra"),
                "China": _list("Beijing, Shanghai, Guangzhou"),
                "Scotland": _list("Glasgow, Edinburgh, Aberdeen"),
            },
            frames=(
                ("{who} spent the summer in {member}", "{who} spent the summer in {group}"),
                ("the train took {who} to {member}", "{who} went to {group} by train"),
            ),
        ),
        Topic(
            groups={
                "sad": _list("unhappy, heartbroken, sorrowful"),
                "ill": _list("sick, unwell, feverish"),
                "brave": _list("courageous, fearless, heroic"),
                "famous": _list("well-known, renowned, a celebrity"),
            },
            frames=(
                ("people describe {who} as {member}", "people say that {who} is {group}"),
                ("{who} became {member}", "{who} became {group}"),
            ),
        ),
    ),
)

_TEST = Claims(
    names=_list("Agnes, Daniel, Laura, Philip, Teresa, Robert"),
    topics=(
        Topic(
            groups={
                "reptile": _list("lizard, crocodile, cobra, turtle"),
                "gemstone": _list("ruby, emerald, sapphire, diamond"),
                "shoe": _list("sandal, boot, slipper, sneaker"),
                "bag": _list("rucksack, handbag, suitcase, briefcase"),
                "cake": _list("brownie, muffin, cream puff, Victoria sponge"),
                "aircraft": _list("helicopter, jet, glider, biplane"),
                "wild cat": _list("lion, tiger, leopard, lynx"),
            },
            frames=(
                (
                    "in {who}'s novel everything turns on a {member}",
                    "a {group} matters in the novel by {who}",
                ),
                ("{who} made a paper model of a {member}", "{who} made a paper model of a {group}"),
                (
                    "{who} appears in an advert with a {member}",
                    "{who} and a {group} appear in an advert",
                ),
            ),
        ),
        Topic(
            groups={
                "journalism": _list("reporter, newspaper editor, columnist, war correspondent"),
                "fashion": _list("tailor, dressmaker, catwalk model, milliner"),
                "science": _list("chemist, physicist, biologist, astronomer"),
                "politics": _list("senator, mayor, cabinet minister, party leader"),
            },
            frames=(
                ("{who} got a position as a {member}", "{who} got a position in {group}"),
                (
                    "there is no better {member} than {who}",
                    "{who} is very good in the world of {group}",
                ),
            ),
        ),
        Topic(
            groups={
                "Poland": _list("Warsaw, Krakow, Gdansk"),
                "Greece": _list("Athens, Thessaloniki, Sparta"),
                "Australia": _list("Sydney, Melbourne, Perth"),
                "Ireland": _list("Dublin, Cork, Galway"),
                "Sweden": _list("Stockholm, Malmo, Gothenburg"),
            },
            frames=(
                ("{who} studied in {member}", "{who} studied in {group}"),
                ("{who} runs a shop in {member}", "you find {who}'s shop in {group}"),
            ),
        ),
        Topic(
            groups={
                "clever": _list("intelligent, bright, smart"),
                "stubborn": _list("obstinate, pig-headed, headstrong"),
                "modest": _list("humble, unassuming, unpretentious"),
                "lazy": _list("idle, work-shy, slothful"),
                "polite": _list("courteous, well-mannered, respectful"),
            },
            frames=(
                ("nobody is more {member} than {who}", "{who} is very {group}"),
                ("I have always found {who} {member}", "in my eyes {who} is {group}"),
            ),
        ),
    ),
)

CLAIMS = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}
