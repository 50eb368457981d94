"""What the sample of entities is written with: names and sentences, apart for each split.

A sentence has its words apart by spaces. {person}, {place}, {organisation} and {product} stand for
names; what an organisation is called may hold a {surname} or a {city} of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NAMINGS", "Namings"]


@dataclass(frozen=True)
class Namings:
    """All that one split is written with; no split shares a name or a sentence with another."""

    first_names: tuple[str, ...]
    surnames: tuple[str, ...]
    places: tuple[str, ...]
    organisations: tuple[str, ...]
    products: tuple[str, ...]
    sentences: tuple[str, ...]


def _list(text: str) -> tuple[str, ...]:
    """The items of ``text``, which commas part."""
    return tuple(" ".join(item.split()) for item in text.split(","))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


_TRAIN = Namings(
    first_names=_list(
        """Anna, Peter, Maria, John, Laura, Michael, Elena, Thomas, Sofia, Daniel, Clara, James,
        Nina, Robert, Alice, Ahmed, Yuki, Carlos, Fatima, Igor, Priya, Chen, Olga, Kofi"""
    ),
    surnames=_list(
        """Miller, Schneider, Rossi, Johnson, Petrov, Garcia, Tanaka, Lincoln, Okafor, Novak,
        Jensen, Dubois, Kumar, O'Brien, Lopez, Baker, Chester, Wang, Fischer, Harper, Silva,
        Nielsen, Rahman, Cooper"""
    ),
    places=_list(
        """Berlin, Paris, Canada, Tokyo, Kenya, Lincoln, Brazil, Oslo, Chicago, Vienna, Egypt,
        Chester, New Zealand, Madrid, Texas, Mumbai, Lake Geneva, Poland, San Diego, Istanbul,
        Peru, Dublin, South Africa, the Danube, Shanghai, Alaska"""
    ),
    organisations=_list(
        """{surname} Motors, {city} University, Bank of {city}, {surname} and Sons, Siemens,
        Microsoft, the Red Cross, {city} United, Toyota, {surname} Press, the Labour Party,
        Greenpeace, {city} Museum of Art, Reuters, Nestle, the {city} Herald, IBM, Air {city},
        {surname} Pharmaceuticals, the World Bank"""
    ),
    products=_list(
        """iPhone, Windows, Golf GTI, PlayStation, Kindle, Walkman, Photoshop, Model T, Aspirin,
        Game Boy, Polo, Java, ThinkPad, Corolla, Nutella, Excel"""
    ),
    sentences=_lines(
        """
        {person} moved to {place} in the spring .
        {person} has worked for {organisation} since last year .
        The trains between {place} and {place} were late again .
        {organisation} announced a new {product} on Monday .
        " We are very happy , " said {person} of {organisation} .
        In {place} , {person} met {person} for the first time .
        {organisation} will close its offices in {place} .
        My old {product} broke when I was in {place} .
        {person} , who was born in {place} , wrote the report .
        The bank refused to pay the president of {organisation} .
        Nobody in the village had ever seen a {product} before .
        It rained all day in {place} , so we stayed at home .
        {person} and {person} are the directors of {organisation} .
        According to {organisation} , prices rose by three percent .
        He sold his {product} to {person} for fifty euros .
        The prime minister of {place} thanked {person} for the help .
        Do you know whether {person} still lives in {place} ?
        She learned to use {product} at {organisation} .
        {organisation} has bought {organisation} for two billion dollars .
        {place} is the largest city on the coast .
        The team from {place} beat {organisation} two to one .
        {person} lost the keys somewhere near the station .
        A spokesman for {organisation} did not want to comment .
        The doctor told {person} to rest for a week .
        We drove from {place} to {place} without a break .
        The new {product} is cheaper than the one we had .
        The river was higher than it had been for years .
        Most of the workers went home before the meeting ended .
        {person} complained to {organisation} about the {product} .
        Three students of {organisation} travelled to {place} .
        On Friday the museum will show pictures by {person} .
        The company that makes the {product} comes from {place} .
        Ask {person} to call me when the letter arrives .
        The weather in {place} surprised {person} .
        Shares of {organisation} fell sharply in the morning .
        He never wanted to leave {place} , but his wife did .
        I bought a {product} and a bottle of water .
        At {organisation} , {person} was known as a quiet man .
        The judge asked {person} where the money was .
        Farmers around {place} are waiting for rain .
        """
    ),
)

_VALIDATION = Namings(
    first_names=_list(
        "Helen, Marco, Ingrid, David, Amina, Lukas, Rosa, Stephen, Mei, Pavel, Grace, Omar"
    ),
    surnames=_list(
        """Taylor, Moretti, Bergman, Haddad, Kowalski, Suzuki, Fernandez, Campbell, Mensah, Weber,
        Ivanov, Sullivan"""
    ),
    places=_list(
        """London, Portugal, Seoul, Nigeria, Boston, Prague, Chile, Zurich, Hong Kong, Norway,
        Marseille, Lake Victoria, Florida, Athens"""
    ),
    organisations=_list(
        """{surname} Airlines, {city} Institute of Technology, Volkswagen, {surname} Brothers,
        Samsung, the Green Party, {city} Rovers, Unicef, {surname} Insurance, the {city} Times,
        Bayer, Google"""
    ),
    products=_list("Xbox, Android, Passat, Espresso Maker, Firefox, Galaxy S, Vespa, PowerPoint"),
    sentences=_lines(
        """
        After ten years abroad , {person} returned to {place} .
        {organisation} is looking for engineers who speak French .
        Yesterday {person} was elected head of {organisation} .
        The flight to {place} takes almost nine hours .
        Her brother repaired the {product} in an afternoon .
        Have you heard what {person} told the police ?
        The factory that {organisation} built in {place} is empty .
        {person} prefers the {product} to anything else .
        Thousands of people left {place} during the war .
        The lawyers of {organisation} sent {person} a letter .
        There was no snow on the mountains this winter .
        {organisation} and {organisation} signed a contract in {place} .
        The children were asleep when {person} came home .
        A museum in {place} shows the first {product} ever made .
        {person} , a teacher from {place} , won the prize .
        Customers of {organisation} must wait for the {product} until May .
        The hotel was full , and so was the restaurant .
        Two players of {organisation} were injured in {place} .
        """
    ),
)

_TEST = Namings(
    first_names=_list(
        "Sarah, Hugo, Leila, Andrew, Emma, Viktor, Julie, Samuel, Hana, Diego, Ruth, Tariq"
    ),
    surnames=_list(
        """Anderson, Lindqvist, Costa, Nakamura, Becker, Adeyemi, Murphy, Laurent, Popov, Sharma,
        Walker, Castillo"""
    ),
    places=_list(
        """Rome, Sweden, Singapore, Ghana, Seattle, Budapest, Argentina, Munich, New Delhi, Finland,
        Barcelona, Lake Michigan, Nevada, Cairo"""
    ),
    organisations=_list(
        """{surname} Electronics, {city} College, Renault, {surname} Consulting, Sony,
        the Liberal Democrats, {city} Wanderers, Oxfam, {surname} Steel, the {city} Chronicle,
        Pfizer, Amazon"""
    ),
    products=_list("iPad, Linux, Civic, MacBook, Skype, Ibuprofen, Mustang, Chrome"),
    sentences=_lines(
        """
        Last summer we spent two weeks in {place} with {person} .
        {organisation} has made a profit for the first time .
        The thief who stole the {product} was caught in {place} .
        {person} refused to answer the questions of {organisation} .
        Everyone in {place} remembers the great fire .
        Without the help of {person} , we would have failed .
        You can download {product} free of charge .
        The chairman of {organisation} , {person} , resigned on Sunday .
        {place} and {place} share a long border .
        {person} paid too much for that {product} .
        Scientists at {organisation} have found a new planet .
        The bus stopped because the road was under water .
        When {person} died , the whole of {place} mourned .
        {organisation} has stopped selling the {product} in {place} .
        My neighbour used to be a driver for {organisation} .
        Her first book is about {person} and the island of {place} .
        The soup was cold and the bread was old .
        The strike at {organisation} ended after {person} gave in .
        """
    ),
)

NAMINGS = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}
