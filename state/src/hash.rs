//! `hash_key`: the fixed hash that says which key group, hence which subtask, owns a key.
//!
//! # Invariants
//! * I1 The hash of a key never changes: it is part of the format of snapshots. A change needs a
//!   new [`HASH_VERSION`].
//! * I2 It depends on what the key's `Serialize` says, and on nothing else. Newtypes and structs
//!   hash like their fields, integers of all widths alike.
//!
//! Integers take one *folded multiply* (the two halves of a 64 by 64 bit product, xored; from
//! wyhash by Wang Yi), strings and byte slices take XXH3 (Yann Collet) and one folded multiply.
//! No bytes are materialised: the key's `Serialize` drives the hasher.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::CodecError;
use crate::key_group::KeyGroupCount;

/// The version of the hash; recorded in snapshots.
pub const HASH_VERSION: u8 = 1;

const SEED: u64 = 0x2d35_8dcc_aa6c_78a5;
const MULTIPLIER: u64 = 0x8bb8_4b93_962e_acc9;

/// The hash of a key: low bits choose the key group, tables use others.
///
/// # Errors
/// `Encode` if the key's `Serialize` fails.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(key: &K) -> Result<u64, CodecError> {
    let mut hasher = KeyHasher { state: SEED };
    key.serialize(&mut hasher)?;
    Ok(hasher.state)
}

/// The hash of a part of a key's state, in the key group that `key_hash`, the key's, leads to.
/// Parts of one key differ in the bits that tables use.
///
/// # Errors
/// `Encode` if the part's `Serialize` fails.
#[inline]
pub fn hash_part<P: Serialize + ?Sized>(
    key_hash: u64,
    part: &P,
    count: KeyGroupCount,
) -> Result<u64, CodecError> {
    let count = u64::from(count.get());
    // One bit less, so that adding a key group cannot overflow.
    let hash = hash_key(&(key_hash, part))? >> 1;
    Ok(hash - hash % count + key_hash % count)
}

/// A serde serialiser that keeps a hash of what it is told.
struct KeyHasher {
    state: u64,
}

impl KeyHasher {
    #[inline]
    fn fold(&mut self, value: u64) {
        let product = u128::from(self.state ^ value) * u128::from(MULTIPLIER);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// Methods that fold an integer, sign-extended or zero-extended to 64 bits.
macro_rules! fold_integers {
    ($($method:ident: $type:ty),*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<(), CodecError> {
                self.fold(value as u64);
                Ok(())
            }
        )*
    };
}

impl<'a> Serializer for &'a mut KeyHasher {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Counted<'a>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Counted<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fold_integers!(
        serialize_bool: bool, serialize_char: char,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64
    );

    fn serialize_u128(self, value: u128) -> Result<(), CodecError> {
        self.fold(value as u64);
        self.fold((value >> 64) as u64);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), CodecError> {
        self.serialize_u128(value as u128)
    }

    fn serialize_f32(self, value: f32) -> Result<(), CodecError> {
        self.fold(u64::from(value.to_bits()));
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), CodecError> {
        self.fold(value.to_bits());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), CodecError> {
        self.fold(xxh3_64(value.as_bytes()));
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        self.fold(xxh3_64(value));
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.fold(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.fold(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        self.fold(0);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
    ) -> Result<(), CodecError> {
        self.fold(u64::from(variant));
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.fold(u64::from(variant));
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Counted<'a>, CodecError> {
        Ok(Counted { hasher: self, elements: 0 })
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.fold(u64::from(variant));
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Counted<'a>, CodecError> {
        Ok(Counted { hasher: self, elements: 0 })
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.fold(u64::from(variant));
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence or map: its elements in order, then their number.
struct Counted<'a> {
    hasher: &'a mut KeyHasher,
    elements: u64,
}

impl SerializeSeq for Counted<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.elements += 1;
        value.serialize(&mut *self.hasher)
    }

    fn end(self) -> Result<(), CodecError> {
        self.hasher.fold(self.elements);
        Ok(())
    }
}

impl SerializeMap for Counted<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        self.elements += 1;
        key.serialize(&mut *self.hasher)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        value.serialize(&mut *self.hasher)
    }

    fn end(self) -> Result<(), CodecError> {
        self.hasher.fold(self.elements);
        Ok(())
    }
}

/// Fixed sequences of fields: each field in order, nothing else.
macro_rules! fields {
    ($($trait:ident :: $method:ident ($($name:ident: $type:ty)?)),*) => {
        $(
            impl $trait for &mut KeyHasher {
                type Ok = ();
                type Error = CodecError;

                #[inline]
                fn $method<T: Serialize + ?Sized>(
                    &mut self,
                    $($name: $type,)?
                    value: &T,
                ) -> Result<(), CodecError> {
                    value.serialize(&mut **self)
                }

                #[inline]
                fn end(self) -> Result<(), CodecError> {
                    Ok(())
                }
            }
        )*
    };
}

fields!(
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(_name: &'static str),
    SerializeStructVariant::serialize_field(_name: &'static str)
);

#[cfg(test)]
mod tests;
