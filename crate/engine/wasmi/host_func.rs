//! Host functions with a static Rust type. A part of `engine/wasmi.rs`.

use wasmi::{AsContextMut as _, Caller, StoreContextMut};

use super::{Data, Wasmi};
use crate::{
    engine::{ImportSite, RealmPtr},
    value::{FuncType, ValueType},
};

/// Creates a host function with up to four i32 and i64 parameters and at most one such result, which
/// most imports have: wasmi calls a function with a static Rust type about twice as quickly. Returns
/// `None` for all other types.
pub(super) fn typed_host_func(
    cx: &mut StoreContextMut<'_, Data>,
    realm: RealmPtr<Wasmi>,
    site: ImportSite,
    ty: &FuncType,
) -> Option<wasmi::Func> {
    match *ty.results {
        [] => with_params::<()>(cx, realm, site, &ty.params),
        [ValueType::I32] => with_params::<i32>(cx, realm, site, &ty.params),
        [ValueType::I64] => with_params::<i64>(cx, realm, site, &ty.params),
        _ => None,
    }
}

fn with_params<R: TypedResult>(
    cx: &mut StoreContextMut<'_, Data>,
    realm: RealmPtr<Wasmi>,
    site: ImportSite,
    params: &[ValueType],
) -> Option<wasmi::Func>
where
    Result<R, wasmi::Error>: wasmi::WasmRet,
{
    /// Converts the types one by one from values into Rust types.
    macro_rules! pick {
        ($wrap:ident [] [$($picked:ty),*]) => { Some($wrap::<$($picked,)* R>(cx, realm, site)) };
        ($wrap:ident [$next:ident $($rest:ident)*] [$($picked:ty),*]) => {
            match $next {
                ValueType::I32 => pick!($wrap [$($rest)*] [$($picked,)* i32]),
                ValueType::I64 => pick!($wrap [$($rest)*] [$($picked,)* i64]),
                _ => None,
            }
        };
    }
    match *params {
        [] => pick!(wrap0 [] []),
        [a] => pick!(wrap1 [a] []),
        [a, b] => pick!(wrap2 [a b] []),
        [a, b, c] => pick!(wrap3 [a b c] []),
        [a, b, c, d] => pick!(wrap4 [a b c d] []),
        _ => None,
    }
}

trait TypedParam: wasmi::WasmTy {
    fn into_slot(self) -> u64;
}

impl TypedParam for i32 {
    fn into_slot(self) -> u64 {
        u64::from(self as u32)
    }
}

impl TypedParam for i64 {
    fn into_slot(self) -> u64 {
        self as u64
    }
}

trait TypedResult: 'static {
    fn from_slot(slot: u64) -> Self;
}

impl TypedResult for () {
    fn from_slot(_: u64) {}
}

impl TypedResult for i32 {
    fn from_slot(slot: u64) -> Self {
        slot as i32
    }
}

impl TypedResult for i64 {
    fn from_slot(slot: u64) -> Self {
        slot as i64
    }
}

macro_rules! wrap {
    ($name:ident, $params:literal $(, $filler:literal)?; $($arg:ident: $ty:ident),*) => {
        fn $name<$($ty: TypedParam,)* R: TypedResult>(
            cx: &mut StoreContextMut<'_, Data>,
            realm: RealmPtr<Wasmi>,
            site: ImportSite,
        ) -> wasmi::Func
        where
            Result<R, wasmi::Error>: wasmi::WasmRet,
        {
            wasmi::Func::wrap(cx, move |mut caller: Caller<'_, Data>, $($arg: $ty),*| -> Result<R, wasmi::Error> {
                let mut slots = [$($arg.into_slot(),)* $($filler)?];
                let count = if size_of::<R>() == 0 { $params } else { slots.len() };
                // SAFETY: this is a host function that the engine is calling, made with this pointer.
                let realm = unsafe { realm.get() };
                realm
                    .host_call(&mut caller.as_context_mut(), site, &mut slots[..count])
                    .map_err(|trap| wasmi::Error::host(*trap))?;
                Ok(R::from_slot(slots[0]))
            })
        }
    };
}

// Even without parameters there must be room for the result.
wrap!(wrap0, 0, 0_u64;);
wrap!(wrap1, 1; a: A);
wrap!(wrap2, 2; a: A, b: B);
wrap!(wrap3, 3; a: A, b: B, c: C);
wrap!(wrap4, 4; a: A, b: B, c: C, d: D);
