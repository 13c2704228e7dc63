//! Searches for other things than a text, and among some of the entries only.

use reverie_imaging::pictures::{self, Rgb};
use reverie_proto::knowledge::v1::filter::Condition;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{Filter, GroupBy, MetadataValue, OneOf, QueryVector, Range, Selection};
use reverie_proto::retrieval::v1::retrieve_request::Embed;

use reverie_proto::tensor::v1::Image;

use super::*;

/// Entries have their position as metadata.
fn from(at_least: f64) -> Filter {
    let range = Range { key: "position".to_owned(), at_least: Some(at_least), at_most: None };
    Filter { condition: Some(Condition::Range(range)) }
}

fn only(position: f64) -> Filter {
    let values = vec![MetadataValue { kind: Some(Kind::Number(position)) }];
    Filter { condition: Some(Condition::OneOf(OneOf { key: "position".to_owned(), values })) }
}

fn vector(values: [f32; 4]) -> Embed {
    Embed::Vector(QueryVector { values: values.to_vec(), space_digest: String::new() })
}

fn image() -> Embed {
    Embed::Image(pictures::encode(&Rgb::new(8, 6), ImageFormat::Png).unwrap())
}

#[tokio::test]
async fn only_entries_that_are_selected_are_found() {
    let mut mesh = mesh("a", false, true).await;
    for strategy in [RetrievalStrategy::Bm25, RetrievalStrategy::Hybrid] {
        let selected =
            |selection| RetrieveRequest { selection: Some(selection), ..ask("a dribago", strategy) };
        let found = selected(Selection { filter: Some(from(102.0)), ..Selection::default() });
        let found = mesh.client.retrieve(found).await.unwrap().into_inner();
        let mut found = ids(&found);
        found.sort_unstable();
        assert_eq!(found, ["102", "103"]);

        let exclude_ids = ["100", "103", "unheard-of"].map(str::to_owned).to_vec();
        let found = selected(Selection { exclude_ids, ..Selection::default() });
        let found = mesh.client.retrieve(found).await.unwrap().into_inner();
        let mut found = ids(&found);
        found.sort_unstable();
        assert_eq!(found, ["101", "102"]);

        // What it names is there, and is not selected: others are no match.
        let none = selected(Selection { filter: Some(from(104.0)), ..Selection::default() });
        let found = mesh.client.retrieve(none.clone()).await.unwrap().into_inner();
        assert!(found.nothing_matched && found.neighbours.is_empty() && found.unmatched_words.is_empty());
        let nearest = RetrieveRequest { nearest: true, ..none };
        let found = mesh.client.retrieve(nearest).await.unwrap().into_inner();
        assert!(found.nothing_matched && found.neighbours.len() == 4);
        assert!(ids(&found).iter().all(|id| id.parse::<u32>().unwrap() >= 104), "{:?}", ids(&found));
    }
    let selection = Some(Selection { filter: Some(from(7.0)), ..Selection::default() });
    let request = RetrieveRequest { selection, ..ask("whatever", RetrievalStrategy::Embedding) };
    let found = mesh.client.retrieve(request).await.unwrap().into_inner();
    assert_eq!(ids(&found), ["7", "8", "9", "10"]);
    assert_eq!(found.neighbours[0].metadata["position"].kind, Some(Kind::Number(7.0)));
    // Nothing is selected.
    let selection = Some(Selection { filter: Some(only(0.5)), ..Selection::default() });
    for strategy in [RetrievalStrategy::Bm25, RetrievalStrategy::Embedding, RetrievalStrategy::Hybrid] {
        let request =
            RetrieveRequest { selection: selection.clone(), nearest: true, ..ask("a dribago", strategy) };
        let found = mesh.client.retrieve(request).await.unwrap().into_inner();
        assert!(found.nothing_matched && found.neighbours.is_empty());
    }
}

#[tokio::test]
async fn an_image_or_a_vector_is_searched_for() {
    let mut mesh = mesh("a", false, true).await;
    let ask = |text, strategy, embed: Option<Embed>| RetrieveRequest { embed, ..ask(text, strategy) };
    for embed in [image(), vector([0.0, 2.0, 0.0, 0.0])] {
        for strategy in [RetrievalStrategy::Unspecified, RetrievalStrategy::Embedding] {
            let found =
                mesh.client.retrieve(ask("", strategy, Some(embed.clone()))).await.unwrap().into_inner();
            assert_eq!(ids(&found), ["120", "121", "122", "123"]);
            assert!((found.neighbours[0].score - 0.9).abs() < 1e-6);
        }
        // The text by its words, the image by embedding.
        let both = ask("a dribago", RetrievalStrategy::Unspecified, Some(embed.clone()));
        let both = RetrieveRequest { limit: 8, ..both };
        let found = mesh.client.retrieve(both).await.unwrap().into_inner();
        assert_eq!(found.neighbours.len(), 4);
        assert!(found.neighbours.iter().all(|found| found.matched_words == ["dribago"]));
        let scene = ask("snow", RetrievalStrategy::Hybrid, Some(embed));
        let found = mesh.client.retrieve(RetrieveRequest { limit: 8, ..scene }).await.unwrap().into_inner();
        assert!(ids(&found).contains(&"120"), "{:?}", ids(&found));
    }
    let foreign = Embed::Vector(QueryVector { values: vec![1.0; 5], space_digest: "b".repeat(64) });
    let broken = Embed::Image(Image { data: b"GIF89a".to_vec().into(), ..Image::default() });
    let cases = [
        (ask("", RetrievalStrategy::Unspecified, None), Code::InvalidArgument, "text: must not be empty"),
        (
            ask("", RetrievalStrategy::Hybrid, Some(image())),
            Code::InvalidArgument,
            "strategy: must be EMBEDDING",
        ),
        (
            ask("a fox", RetrievalStrategy::Bm25, Some(image())),
            Code::InvalidArgument,
            "strategy: must not be BM25",
        ),
        (ask("", RetrievalStrategy::Embedding, Some(broken)), Code::InvalidArgument, "image: "),
        (
            ask("", RetrievalStrategy::Embedding, Some(vector([0.0; 4]))),
            Code::InvalidArgument,
            "vector.values",
        ),
        (
            ask("", RetrievalStrategy::Embedding, Some(foreign)),
            Code::FailedPrecondition,
            "of the encoder aaaa",
        ),
    ];
    for (request, code, told) in cases {
        let status = mesh.client.retrieve(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(told), "{status}");
    }
}

#[tokio::test]
async fn what_is_alike_is_left_out_if_that_is_asked_for() {
    let mut mesh = mesh("a", false, true).await;
    let ask = |selection| RetrieveRequest {
        selection: Some(selection),
        limit: 3,
        ..ask("whatever", RetrievalStrategy::Embedding)
    };
    let creatures = |found: &RetrieveResponse| -> Vec<u32> {
        ids(found).iter().map(|id| id.parse::<u32>().unwrap() / 4).collect()
    };
    let found = mesh.client.retrieve(ask(Selection::default())).await.unwrap().into_inner();
    assert_eq!(creatures(&found), [0, 0, 0]);
    let diverse = Selection { diversity: Some(0.5), ..Selection::default() };
    let found = mesh.client.retrieve(ask(diverse)).await.unwrap().into_inner();
    assert_eq!(ids(&found), ["0", "4", "8"]);
    let group = |metadata_key: &str, limit| Selection {
        group_by: Some(GroupBy { metadata_key: metadata_key.to_owned(), limit }),
        ..Selection::default()
    };
    // By what captions are about.
    let found = mesh.client.retrieve(ask(group("", None))).await.unwrap().into_inner();
    assert_eq!(creatures(&found), [0, 1, 2]);
    let found = mesh.client.retrieve(ask(group("", Some(2)))).await.unwrap().into_inner();
    assert_eq!(creatures(&found), [0, 0, 1]);
    // Each entry has a position of its own, and none has a colour.
    for key in ["position", "colour"] {
        let found = mesh.client.retrieve(ask(group(key, None))).await.unwrap().into_inner();
        assert_eq!(ids(&found), ["0", "1", "2"]);
    }
}

#[tokio::test]
async fn a_hundred_neighbours_come_with_small_images_or_none() {
    let noise = {
        let mut state = 7_u32;
        Rgb::from_fn(600, 400, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8].into()
        })
    };
    let picture = pictures::encode(&noise, ImageFormat::Png).unwrap().data;
    let mut mesh = mesh_with(picture.to_vec().leak()).await;
    let ask = |limit, images: ImageDetail| RetrieveRequest {
        limit,
        images: images.into(),
        ..ask("snow", RetrievalStrategy::Hybrid)
    };
    let bytes = |found: &RetrieveResponse| -> Vec<usize> {
        found
            .neighbours
            .iter()
            .map(|found| found.image.as_ref().map_or(0, |image| image.data.len()))
            .collect()
    };
    let found = mesh.client.retrieve(ask(100, ImageDetail::Unspecified)).await.unwrap().into_inner();
    assert_eq!(found.neighbours.len(), 100);
    assert!(bytes(&found).iter().all(|bytes| (1000..=35 << 10).contains(bytes)), "{:?}", bytes(&found));
    let found = mesh.client.retrieve(ask(8, ImageDetail::Thumbnail)).await.unwrap().into_inner();
    assert!(bytes(&found).iter().all(|bytes| (35 << 10..=448 << 10).contains(bytes)), "{:?}", bytes(&found));
    let image = pictures::decode(found.neighbours[0].image.as_ref().unwrap()).unwrap();
    assert_eq!(image.dimensions(), (512, 341));
    let found = mesh.client.retrieve(ask(100, ImageDetail::None)).await.unwrap().into_inner();
    assert_eq!(bytes(&found), [0; 100]);
    let found = mesh.client.retrieve(ask(2, ImageDetail::Original)).await.unwrap().into_inner();
    assert_eq!(bytes(&found), [picture.len(); 2]);
    for (request, told) in [
        (ask(101, ImageDetail::None), "limit: must be 1 to 100"),
        (ask(9, ImageDetail::Original), "limit: must be 1 to 8"),
        (RetrieveRequest { images: 99, ..ask(1, ImageDetail::None) }, "images"),
    ] {
        let status = mesh.client.retrieve(request).await.unwrap_err();
        assert!(status.message().contains(told), "{status}");
    }
}
