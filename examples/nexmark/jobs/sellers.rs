//! The jobs about persons and what they sell: q3, q8.

use thalweg::engine::time::millis;
use thalweg::{Stream, Tumbling};

use crate::output::Output;
use crate::query::{CATEGORY, STATES, WINDOW_MS};
use crate::record::{Offered, Seller};
use crate::rows::{LocalAuction, NewSeller};

/// Persons of some states with each of their auctions of one category, whenever the two come.
pub(super) fn q3((persons, auctions): &(Stream<Seller>, Stream<Offered>), output: &Output) {
    let persons = persons.filter(|person| STATES.contains(&person.state.as_ref()));
    let auctions = auctions
        .filter(|auction| auction.category == CATEGORY)
        .map(|auction| (auction.seller, auction.id));
    let local = persons
        .key_by(|person| person.id)
        .connect(&auctions.key_by(|&(seller, _)| seller))
        .inner_join("local-auctions", |_, person, &(_, auction)| LocalAuction {
            name: person.name.clone(),
            city: person.city.clone(),
            state: person.state.clone(),
            auction,
        });
    output.rows(&local);
}

/// Persons that registered and offered something in the same window, once each.
pub(super) fn q8((persons, auctions): &(Stream<Seller>, Stream<Offered>), output: &Output) {
    let persons = persons.map(|person| (person.id, person.name)).key_by(|&(id, _)| id);
    let sellers = auctions.map(|auction| auction.seller).key_by(|seller| *seller);
    let new = persons
        .join(&sellers)
        .window(Tumbling::of(millis(WINDOW_MS.unsigned_abs())))
        .co_group("new-sellers", |_, window, persons, auctions| {
            let person = persons.first().filter(|_| !auctions.is_empty());
            person.map(|(id, name)| NewSeller {
                id: *id,
                name: name.clone(),
                window_start: window.start.millis(),
                window_end: window.end.millis(),
            })
        })
        .results();
    output.rows(&new);
}
