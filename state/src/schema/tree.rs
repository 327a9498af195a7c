//! `Node`: a type as far as it is known, a tree that grows from pass to pass.

use super::names::NameLists;
use super::{Field, Schema, Shape, Variant};

/// A place in the type, as far as it is known.
#[derive(Default)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Which value the place offers.
    pub(super) attempt: usize,
    pub(super) is_known: bool,
}

#[derive(Default)]
pub(super) enum Kind {
    #[default]
    Unknown,
    Leaf(Schema),
    Option(Box<Node>),
    Seq(Box<Node>),
    Map(Box<[Node; 2]>),
    Tuple(Parts),
    Struct(&'static str, Named),
    Enum(&'static str, Variants),
    /// The type contains itself here.
    Recursion(String),
}

/// The parts that were asked for.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) nodes: Vec<Node>,
    /// True if no more are asked for.
    pub(super) is_closed: bool,
}

pub(super) struct Named {
    /// All names, those of aliases too until they are known to be such.
    pub(super) names: Vec<&'static str>,
    pub(super) parts: Parts,
}

pub(super) struct Variants {
    pub(super) names: Vec<&'static str>,
    /// As many as there may be; fewer than names if some are aliases.
    pub(super) contents: Vec<Option<VariantKind>>,
}

pub(super) enum VariantKind {
    Unit,
    Newtype(Node),
    Tuple(Parts),
    Struct(Named),
}

impl Parts {
    pub(super) fn is_complete(&mut self) -> bool {
        self.is_closed && self.nodes.iter_mut().all(Node::is_complete)
    }

    pub(super) fn schemas(&self) -> Option<Vec<Schema>> {
        self.nodes.iter().map(Node::schema).collect()
    }
}

impl Named {
    pub(super) fn fields(&self) -> Option<Vec<Field>> {
        if self.names.len() != self.parts.nodes.len() {
            return None;
        }
        let named = self.names.iter().zip(&self.parts.nodes);
        named.map(|(name, node)| Some(Field((*name).to_owned(), node.schema()?))).collect()
    }

    /// Leaves out the names that are aliases; true if none is left.
    pub(super) fn resolve(&mut self, of: &str, names: &NameLists) -> bool {
        let count = self.parts.nodes.len();
        if self.parts.is_closed
            && self.names.len() > count
            && let Some(fields) = names.fields(of, &self.names, count)
        {
            self.names = fields;
        }
        resolve_all(&mut self.parts.nodes, names) && self.names.len() == count
    }
}

impl VariantKind {
    pub(super) fn is_complete(&mut self) -> bool {
        match self {
            VariantKind::Unit => true,
            VariantKind::Newtype(node) => node.is_complete(),
            VariantKind::Tuple(parts) => parts.is_complete(),
            VariantKind::Struct(named) => named.parts.is_complete(),
        }
    }

    pub(super) fn shape(&self) -> Option<Shape> {
        Some(match self {
            VariantKind::Unit => Shape::Unit,
            VariantKind::Newtype(node) => Shape::Newtype(node.schema()?),
            VariantKind::Tuple(parts) => Shape::Tuple(parts.schemas()?),
            VariantKind::Struct(named) => Shape::Struct(named.fields()?),
        })
    }
}

impl Node {
    pub(super) fn is_complete(&mut self) -> bool {
        self.is_known = self.is_known
            || match &mut self.kind {
                Kind::Unknown => false,
                Kind::Leaf(_) | Kind::Recursion(_) => true,
                Kind::Option(inner) | Kind::Seq(inner) => inner.is_complete(),
                Kind::Map(parts) => parts.iter_mut().all(Node::is_complete),
                Kind::Tuple(parts) => parts.is_complete(),
                Kind::Struct(_, named) => named.parts.is_complete(),
                Kind::Enum(_, variants) => {
                    let is_complete = |kind: &mut Option<VariantKind>| {
                        kind.as_mut().is_some_and(VariantKind::is_complete)
                    };
                    variants.contents.iter_mut().all(is_complete)
                }
            };
        self.is_known
    }

    /// Finds out which names are aliases; true if that is known everywhere.
    pub(super) fn resolve(&mut self, names: &NameLists) -> bool {
        match &mut self.kind {
            Kind::Option(inner) | Kind::Seq(inner) => inner.resolve(names),
            Kind::Map(parts) => resolve_all(&mut **parts, names),
            Kind::Tuple(parts) => resolve_all(&mut parts.nodes, names),
            Kind::Struct(name, named) => named.resolve(name, names),
            Kind::Enum(name, variants) => {
                let count = variants.contents.len();
                if variants.names.len() > count
                    && let Some(found) = names.variants(name, &variants.names, count)
                {
                    variants.names = found;
                }
                let mut is_resolved = variants.names.len() == count;
                for (kind, variant) in variants.contents.iter_mut().zip(&variants.names) {
                    is_resolved &= match kind {
                        Some(VariantKind::Newtype(node)) => node.resolve(names),
                        Some(VariantKind::Struct(named)) => named.resolve(variant, names),
                        Some(VariantKind::Tuple(parts)) => resolve_all(&mut parts.nodes, names),
                        Some(VariantKind::Unit) | None => true,
                    };
                }
                is_resolved
            }
            Kind::Unknown | Kind::Leaf(_) | Kind::Recursion(_) => true,
        }
    }

    pub(super) fn schema(&self) -> Option<Schema> {
        Some(match &self.kind {
            Kind::Unknown => return None,
            Kind::Leaf(schema) => schema.clone(),
            Kind::Option(inner) => Schema::Option(Box::new(inner.schema()?)),
            Kind::Seq(inner) => Schema::Seq(Box::new(inner.schema()?)),
            Kind::Map(parts) => {
                Schema::Map(Box::new(parts[0].schema()?), Box::new(parts[1].schema()?))
            }
            Kind::Tuple(parts) => match parts.schemas()? {
                parts if parts.len() > 3 && parts.iter().all(|part| *part == parts[0]) => {
                    Schema::Array(parts.len(), Box::new(parts[0].clone()))
                }
                parts => Schema::Tuple(parts),
            },
            Kind::Struct(name, named) => {
                Schema::Struct { name: (*name).to_owned(), fields: named.fields()? }
            }
            Kind::Enum(name, variants) => {
                let Variants { names, contents } = variants;
                if names.len() != contents.len() {
                    return None;
                }
                let variant = |(name, kind): (&&str, &Option<VariantKind>)| {
                    Some(Variant((*name).to_owned(), kind.as_ref()?.shape()?))
                };
                let variants: Option<Vec<_>> = names.iter().zip(contents).map(variant).collect();
                Schema::Enum { name: (*name).to_owned(), variants: variants? }
            }
            Kind::Recursion(name) => Schema::Opaque(name.clone()),
        })
    }
}

/// Every node is asked, also behind one of which it is not known.
fn resolve_all(nodes: &mut [Node], names: &NameLists) -> bool {
    let unknown = nodes.iter_mut().filter_map(|node| (!node.resolve(names)).then_some(()));
    unknown.count() == 0
}
