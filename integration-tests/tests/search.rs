//! What a search is for, what of a knowledge base it may find, and search without drawing.

use reverie_integration_tests::Fallible;
use reverie_integration_tests::creatures::{self, name_of};
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{PATIENCE, draw, neighbour_ids, quick};
use reverie_knowledge::epoch::Entry;
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::retrieval::Embed;
use reverie_proto::generation::v1::{GenerateRequest, Reference, References, Retrieval};
use reverie_proto::knowledge::v1::filter::Condition;
use reverie_proto::knowledge::v1::{Filter, Filters, GroupBy, ImageDetail, QueryVector, Selection};
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{
    ListKnowledgeBasesRequest, RetrieveRequest, RetrieveResponse, retrieve_request,
};
use reverie_proto::tensor::v1::{Image, ImageFormat};
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::{Address, Context};
use tonic::{Code, Status};

const PROMPT: &str = "a small zunin on the left, snow";

fn with(retrieval: Retrieval) -> GenerateRequest {
    GenerateRequest { memory: Some(Memory::Retrieval(retrieval)), ..quick(PROMPT, 64, 5) }
}

fn image_of(entry: &Entry) -> Image {
    Image { format: ImageFormat::Png.into(), data: entry.image.clone(), ..Image::default() }
}

fn reference(entry: &Entry) -> Reference {
    Reference { image: Some(image_of(entry)), caption: entry.caption.clone(), ..Reference::default() }
}

/// The search at the public door.
struct Door(RetrievalServiceClient<Channel>);

impl Door {
    fn of(pipeline: &Address) -> Self {
        Self(RetrievalServiceClient::new(Upstream::new("pipeline", pipeline).channel()))
    }

    async fn retrieve(&mut self, request: RetrieveRequest) -> Result<RetrieveResponse, Status> {
        let request = Context::with_timeout(PATIENCE).outgoing(request);
        self.0.retrieve(request).await.map(tonic::Response::into_inner)
    }
}

fn ids(found: &RetrieveResponse) -> Vec<&str> {
    found.neighbours.iter().map(|neighbour| neighbour.id.as_str()).collect()
}

#[test]
fn the_public_door_searches_without_drawing() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let entries = creatures::entries().await?;
        let mut door = Door::of(&pipeline);
        let listed = door.0.list_knowledge_bases(ListKnowledgeBasesRequest {}).await?.into_inner();
        let listed = &listed.knowledge_bases[0];
        assert_eq!((listed.name.as_str(), listed.size, listed.dimension), ("creatures", 960, 128));

        let request =
            RetrieveRequest { text: "a zunin".to_owned(), limit: 100, ..RetrieveRequest::default() };
        let found = door.retrieve(request.clone()).await?;
        let zunins = entries.iter().filter(|entry| name_of(&entry.id) == Some("zunin")).count();
        assert_eq!((found.neighbours.len(), found.knowledge_base.as_str()), (zunins, "creatures"));
        assert!(found.neighbours.iter().all(|neighbour| name_of(&neighbour.id) == Some("zunin")));
        // Pictures of 64 pixels are small as they are.
        let first = &found.neighbours[0];
        let entry = entries.iter().find(|entry| entry.id == first.id).ok_or("it is not there")?;
        assert_eq!(first.image.as_ref().map(|image| &image.data), Some(&entry.image));

        // An image is most like itself, and so is its own vector's nearest.
        for entry in entries.iter().step_by(241) {
            let embed = Some(retrieve_request::Embed::Image(image_of(entry)));
            let request = RetrieveRequest { embed, limit: 3, ..RetrieveRequest::default() };
            let found = door.retrieve(request).await?;
            assert_eq!(found.neighbours[0].caption, entry.caption, "{:?}", ids(&found));
            assert!(found.neighbours[0].score > 0.999, "{}", found.neighbours[0].score);
        }

        // What is wrong is told by the caller's own field.
        let refused = door.retrieve(RetrieveRequest { limit: 101, ..request.clone() }).await;
        let status = refused.err().ok_or("it is found")?;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("limit: must be 1 to 100"), "{status}");
        let refused = door.retrieve(RetrieveRequest { knowledge_base: "birds".to_owned(), ..request }).await;
        assert_eq!(refused.err().ok_or("it is found")?.code(), Code::NotFound);
        Ok(())
    })
}

#[test]
fn neighbours_are_all_different_creatures_if_that_is_asked_for() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let mut door = Door::of(&pipeline);
        let names = creatures::names(3).await?;
        let ask = |selection| RetrieveRequest {
            text: format!("a {} and a {} beside a {}, snow", names[0], names[1], names[2]),
            limit: 8,
            images: ImageDetail::None.into(),
            selection: Some(selection),
            ..RetrieveRequest::default()
        };
        let creatures_of = |found: &RetrieveResponse| {
            let mut creatures: Vec<_> = found.neighbours.iter().filter_map(|one| name_of(&one.id)).collect();
            creatures.sort_unstable();
            creatures.dedup();
            creatures.len()
        };
        let plain = door.retrieve(ask(Selection::default())).await?;
        assert_eq!((plain.neighbours.len(), creatures_of(&plain)), (8, 3));
        let grouped = Selection { group_by: Some(GroupBy::default()), ..Selection::default() };
        let found = door.retrieve(ask(grouped)).await?;
        assert_eq!((found.neighbours.len(), creatures_of(&found)), (3, 3), "{:?}", ids(&found));

        // The image that is most like one stays; after it come others that are less like it.
        let entries = creatures::entries().await?;
        let entry = entries.iter().find(|entry| name_of(&entry.id) == Some(&names[1])).ok_or("none")?;
        let ask = |diversity| RetrieveRequest {
            embed: Some(retrieve_request::Embed::Image(image_of(entry))),
            limit: 8,
            images: ImageDetail::None.into(),
            selection: Some(Selection { diversity: Some(diversity), ..Selection::default() }),
            ..RetrieveRequest::default()
        };
        let (plain, diverse) = (door.retrieve(ask(0.0)).await?, door.retrieve(ask(0.9)).await?);
        assert_eq!(ids(&plain)[0], ids(&diverse)[0]);
        let mean = |found: &RetrieveResponse| found.neighbours.iter().map(|one| one.score).sum::<f32>() / 8.0;
        assert!(mean(&diverse) < mean(&plain), "{} {}", mean(&diverse), mean(&plain));
        Ok(())
    })
}

#[test]
fn an_image_is_drawn_with_what_another_search_found() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let plain = draw(&pipeline, quick(PROMPT, 64, 5)).await?;
        let first = neighbour_ids(&plain)[0].to_owned();
        let entries = creatures::entries().await?;
        let name = creatures::names(3).await?.remove(1);
        let other = entries.iter().find(|entry| name_of(&entry.id) == Some(&name)).ok_or("none")?;

        // An image instead of the prompt: the other creature is found, and drawn.
        let embed = Some(Embed::QueryImage(image_of(other)));
        let by_image = Retrieval { embed, neighbours: Some(1), ..Retrieval::default() };
        let drawn = draw(&pipeline, with(by_image)).await?;
        assert_eq!(drawn.neighbours.neighbours[0].caption, other.caption);
        let given = References { references: vec![reference(other)] };
        let memory = Some(Memory::References(given));
        let expected = draw(&pipeline, GenerateRequest { memory, ..quick(PROMPT, 64, 5) }).await?;
        assert_eq!(drawn.image.data, expected.image.data);

        // Not this one.
        let exclude_ids = vec![first.clone()];
        let selection = Some(Selection { exclude_ids, ..Selection::default() });
        let others = draw(&pipeline, with(Retrieval { selection, ..Retrieval::default() })).await?;
        assert!(!neighbour_ids(&others).contains(&first.as_str()), "{:?}", neighbour_ids(&others));
        assert!(neighbour_ids(&others).iter().all(|id| name_of(id) == Some("zunin")));
        Ok(())
    })
}

#[test]
fn the_caller_s_own_references_come_before_those_that_are_found() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let entries = creatures::entries().await?;
        let name = creatures::names(3).await?.remove(1);
        let own = entries.iter().find(|entry| name_of(&entry.id) == Some(&name)).ok_or("none")?;
        let retrieval =
            Retrieval { references: vec![reference(own)], neighbours: Some(2), ..Retrieval::default() };
        let both = draw(&pipeline, with(retrieval)).await?;
        let ids = neighbour_ids(&both);
        assert_eq!((ids.len(), ids[0]), (3, "reference-1"));
        assert!(ids[1..].iter().all(|id| name_of(id) == Some("zunin")), "{ids:?}");
        let found = ids[1..].iter().map(|id| entries.iter().find(|entry| entry.id == **id));
        let found = found.collect::<Option<Vec<_>>>().ok_or("unknown ids")?;
        let references = [own].into_iter().chain(found).map(reference).collect();
        let memory = Some(Memory::References(References { references }));
        let given = draw(&pipeline, GenerateRequest { memory, ..quick(PROMPT, 64, 5) }).await?;
        assert_eq!(both.image.data, given.image.data);

        // Without images in the event, it is drawn from the same ones.
        let retrieval = |images: ImageDetail| Retrieval { images: images.into(), ..Retrieval::default() };
        let told = draw(&pipeline, with(retrieval(ImageDetail::Original))).await?;
        let silent = draw(&pipeline, with(retrieval(ImageDetail::None))).await?;
        assert_eq!(told.image.data, silent.image.data);
        assert!(told.neighbours.neighbours.iter().all(|neighbour| neighbour.image.is_some()));
        assert!(silent.neighbours.neighbours.iter().all(|neighbour| neighbour.image.is_none()));
        Ok(())
    })
}

#[test]
fn what_is_wrong_with_a_search_is_told_by_field() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let entries = creatures::entries().await?;
        let broken = Image { data: b"GIF89a".to_vec().into(), ..Image::default() };
        let vector = |values| Some(Embed::QueryVector(QueryVector { values, space_digest: String::new() }));
        let none = Filter { condition: Some(Condition::Any(Filters::default())) };
        let selection = Some(Selection { filter: Some(none), ..Selection::default() });
        let eight = vec![reference(&entries[0]); 8];
        let mut unreadable = reference(&entries[0]);
        unreadable.caption = String::new();
        let cases = [
            (
                Retrieval { embed: Some(Embed::QueryImage(broken)), ..Retrieval::default() },
                "retrieval.query_image",
            ),
            (
                Retrieval { embed: vector(vec![1.0; 3]), ..Retrieval::default() },
                "retrieval.query_vector.values",
            ),
            (Retrieval { selection, ..Retrieval::default() }, "retrieval.selection.filter.any.filters"),
            (Retrieval { references: eight, ..Retrieval::default() }, "retrieval.references"),
            (
                Retrieval { references: vec![unreadable; 1], ..Retrieval::default() },
                "retrieval.references[0].caption",
            ),
            (
                Retrieval {
                    references: vec![reference(&entries[0]); 7],
                    neighbours: Some(2),
                    ..Retrieval::default()
                },
                "retrieval.neighbours",
            ),
            (Retrieval { images: 9, ..Retrieval::default() }, "retrieval.images"),
        ];
        for (retrieval, field) in cases {
            let status = draw(&pipeline, with(retrieval)).await.err().ok_or(field)?;
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains(&format!("{field}: ")), "{field}: {status}");
        }
        Ok(())
    })
}
