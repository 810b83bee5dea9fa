//! What a function's signature says: arguments, result, whether it may fail.

use proc_macro2::Span;
use syn::visit_mut::{VisitMut, visit_type_mut, visit_type_reference_mut};
use syn::{
    Error, Expr, ExprLit, FnArg, GenericArgument, Lifetime, Lit, Meta, Pat, PathArguments, Result, ReturnType,
    Signature, Type, TypeParamBound, TypeReference,
};

/// Gives every elided lifetime of a type a name.
struct NameElided(Lifetime);

impl VisitMut for NameElided {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        reference.lifetime.get_or_insert_with(|| self.0.clone());
        visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = self.0.clone();
        }
    }
}

/// The type with its elided lifetimes named.
pub fn named(data_type: &Type, lifetime: &str) -> Type {
    let mut named = data_type.clone();
    visit_type_mut(&mut NameElided(Lifetime::new(lifetime, Span::call_site())), &mut named);
    named
}

struct Replace<'l>(&'l Lifetime, Lifetime);

impl VisitMut for Replace<'_> {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == self.0.ident {
            *lifetime = self.1.clone();
        }
    }
}

/// The type with another lifetime in place of `from`.
pub fn with_lifetime(data_type: &Type, from: &Lifetime, to: &str) -> Type {
    let mut replaced = data_type.clone();
    visit_type_mut(&mut Replace(from, Lifetime::new(to, Span::call_site())), &mut replaced);
    replaced
}

/// The arguments but `self`: names and types.
pub fn arguments(signature: &Signature) -> Result<Vec<(String, Type)>> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let mut arguments = Vec::new();
    for (at, argument) in typed.enumerate() {
        let name = match &*argument.pat {
            Pat::Ident(pat) => pat.ident.to_string().trim_start_matches("r#").trim_start_matches('_').to_owned(),
            _ => String::new(),
        };
        let name = if name.is_empty() { format!("arg{at}") } else { name };
        if let Type::ImplTrait(what) = &*argument.ty {
            return Err(Error::new_spanned(what, "an argument of a UDF has one type, which the host knows: name it"));
        }
        arguments.push((name, (*argument.ty).clone()));
    }
    Ok(arguments)
}

fn last_argument<'t>(data_type: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = data_type else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// What is given, and whether it comes in a `Result`.
pub struct Given {
    pub value: Type,
    pub fails: bool,
}

/// What a function gives.
pub fn given(signature: &Signature) -> Result<Given> {
    let ReturnType::Type(_, result) = &signature.output else {
        return Err(Error::new_spanned(&signature.ident, "a UDF gives a value: say its type after `->`"));
    };
    Ok(match last_argument(result, "Result") {
        Some(value) => Given { value: value.clone(), fails: true },
        None => Given { value: (**result).clone(), fails: false },
    })
}

/// `T` of `Vec<T>`, `impl Iterator<Item = T>` or `Box<dyn Iterator<Item = T>>`.
pub fn item_of(data_type: &Type) -> Result<Type> {
    let bounds = match data_type {
        Type::ImplTrait(bounds) => &bounds.bounds,
        other => match (last_argument(other, "Vec"), last_argument(other, "Box")) {
            (Some(item), _) => return Ok(item.clone()),
            (None, Some(Type::TraitObject(bounds))) => &bounds.bounds,
            _ => {
                return Err(Error::new_spanned(
                    other,
                    "say what it gives: `impl Iterator<Item = T> + 'static` or `Vec<T>`",
                ));
            }
        },
    };
    let item = bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let PathArguments::AngleBracketed(arguments) = &bound.path.segments.last()?.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(item.ty.clone()),
            _ => None,
        })
    });
    item.ok_or_else(|| {
        Error::new_spanned(data_type, "say what the iterator gives: `impl Iterator<Item = T> + 'static`")
    })
}

/// The first paragraph of the documentation.
pub fn documentation(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> = lines.skip_while(String::is_empty).take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}
