//! `#[derive(States)]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericArgument, LitBool, LitStr, PathArguments, Result, Type};

struct State {
    ident: syn::Ident,
    value: Type,
    name: String,
    call: bool,
    prefetch: bool,
}

/// `T` of a field of type `ValueState<T>`.
fn value_of(field: &Field) -> Option<Type> {
    let Type::Path(path) = &field.ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "ValueState")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(value)) => Some(value.clone()),
        _ => None,
    }
}

fn state(ident: &syn::Ident, value: Type, field: &Field) -> Result<State> {
    let name = ident.to_string().trim_start_matches("r#").to_owned();
    let mut state = State { ident: ident.clone(), value, name, call: false, prefetch: true };
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                state.name = meta.value()?.parse::<LitStr>()?.value();
            } else if meta.path.is_ident("prefetch") {
                state.prefetch = meta.value()?.parse::<LitBool>()?.value;
            } else if meta.path.is_ident("access") {
                let access: LitStr = meta.value()?.parse()?;
                state.call = match access.value().as_str() {
                    "call" => true,
                    "column" => false,
                    _ => return Err(Error::new_spanned(access, "access is \"column\" (the default) or \"call\"")),
                };
            } else {
                return Err(meta.error("options are name, access and prefetch"));
            }
            Ok(())
        })?;
    }
    Ok(state)
}

pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(input)?;
    let Data::Struct(data) = &item.data else {
        return Err(Error::new_spanned(&item.ident, "only a struct can have states"));
    };
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a process function has no type parameters"));
    }
    let (mut states, mut others) = (Vec::new(), Vec::new());
    match &data.fields {
        Fields::Named(fields) => {
            for field in &fields.named {
                let ident = field.ident.as_ref().expect("named fields have names");
                match value_of(field) {
                    Some(value) => states.push(state(ident, value, field)?),
                    None => others.push(ident),
                }
            }
        }
        Fields::Unit => {}
        Fields::Unnamed(_) => {
            return Err(Error::new_spanned(&item.ident, "states take their fields' names: name the fields"));
        }
    }
    if let Some(twice) =
        states.iter().enumerate().find(|(at, state)| states[..*at].iter().any(|before| before.name == state.name))
    {
        return Err(Error::new_spanned(&twice.1.ident, format!("there are two states `{}`", twice.1.name)));
    }
    let process = &item.ident;
    let idents: Vec<_> = states.iter().map(|state| &state.ident).collect();
    let values: Vec<_> = states.iter().map(|state| &state.value).collect();
    let names: Vec<_> = states.iter().map(|state| &state.name).collect();
    let access: Vec<_> = states.iter().map(|state| if state.call { quote!(Call) } else { quote!(Column) }).collect();
    let prefetch: Vec<_> = states.iter().map(|state| state.prefetch).collect();
    let numbers: Vec<_> = (0..states.len()).collect();
    Ok(quote! {
        const _: () = {
            use ::wasmill_udf::__private as sdk;

            impl ::wasmill_udf::States for #process {
                fn declare() -> ::std::vec::Vec<sdk::StateDeclaration> {
                    ::std::vec![#(sdk::StateDeclaration {
                        name: ::std::string::String::from(#names),
                        data_type: <#values as sdk::Typed>::data_type(),
                        access: sdk::Access::#access,
                    }),*]
                }

                fn create(_loaded: &[sdk::StateDeclaration]) -> Self {
                    Self {
                        #(#idents: ::wasmill_udf::ValueState::new(#numbers, _loaded[#numbers].access, #prefetch),)*
                        #(#others: ::std::default::Default::default(),)*
                    }
                }

                fn visit(
                    &mut self,
                    _visit: &mut dyn ::std::ops::FnMut(&mut dyn sdk::AnyState) -> ::std::result::Result<(), sdk::FrameError>,
                ) -> ::std::result::Result<(), sdk::FrameError> {
                    #(_visit(&mut self.#idents)?;)*
                    ::std::result::Result::Ok(())
                }

                #[inline]
                fn select(&mut self, _key: usize) {
                    #(self.#idents.select(_key);)*
                }

                #[inline]
                fn commit(&mut self) {
                    #(self.#idents.commit();)*
                }

                #[inline]
                fn undo(&mut self) {
                    #(self.#idents.undo();)*
                }
            }
        };
    })
}
