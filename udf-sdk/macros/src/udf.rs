//! `#[udf]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::{Error, FnArg, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, LitStr, Result, ReturnType, Signature, Type};

use crate::signature::{Given, arguments, documentation, given, item_of, named, with_lifetime};

#[derive(Clone, Copy, Default, PartialEq)]
enum Kind {
    #[default]
    Scalar,
    Vectorized,
    Table,
    Filter,
    Map,
    Reduce,
}

#[derive(Default)]
struct Options {
    kind: Option<Kind>,
    name: Option<String>,
    nondeterministic: bool,
}

fn options(tokens: TokenStream) -> Result<Options> {
    let mut options = Options::default();
    let parser = syn::meta::parser(|meta| {
        let kinds = [
            ("scalar", Kind::Scalar),
            ("vectorized", Kind::Vectorized),
            ("table", Kind::Table),
            ("filter", Kind::Filter),
            ("map", Kind::Map),
            ("reduce", Kind::Reduce),
        ];
        if let Some((_, kind)) = kinds.iter().find(|(name, _)| meta.path.is_ident(name)) {
            if options.kind.replace(*kind).is_some() {
                return Err(meta.error("a UDF has one kind"));
            }
        } else if meta.path.is_ident("nondeterministic") {
            options.nondeterministic = true;
        } else if meta.path.is_ident("name") {
            options.name = Some(meta.value()?.parse::<LitStr>()?.value());
        } else {
            return Err(meta.error(
                "options are scalar, vectorized, table, filter, map, reduce, name = \"…\" and nondeterministic",
            ));
        }
        Ok(())
    });
    parser.parse2(tokens)?;
    Ok(options)
}

pub fn expand(tokens: TokenStream, input: TokenStream) -> Result<TokenStream> {
    let options = options(tokens)?;
    match syn::parse2::<Item>(input)? {
        Item::Fn(item) => function(&options, &item),
        Item::Impl(item) if item.trait_.is_some() => trait_impl(&options, &item),
        Item::Impl(item) => inherent_impl(&options, item),
        other => Err(Error::new_spanned(
            other,
            "#[udf] goes on a function, an `impl` block, or an `impl Aggregate` or `impl Process`",
        )),
    }
}

/// `#[udf] fn`: a type of the function's name stands for it, which functions leave free.
fn function(options: &Options, item: &ItemFn) -> Result<TokenStream> {
    let signature = &item.sig;
    plain(signature)?;
    if let Some(receiver) = signature.receiver() {
        return Err(Error::new_spanned(receiver, "put #[udf] on the `impl` block"));
    }
    let (name, visibility) = (&signature.ident, &item.vis);
    let udf = Udf {
        options,
        signature,
        target: quote!(#name),
        open: quote!(::std::result::Result::Ok(#name {})),
        callee: quote!(#name),
        documentation: documentation(&item.attrs),
    };
    let expanded = udf.expand()?;
    Ok(quote! {
        #item

        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        #visibility struct #name {}

        #expanded
    })
}

/// `#[udf] impl Type`: `open`, and one method that is the function.
fn inherent_impl(options: &Options, item: ItemImpl) -> Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a UDF has no type parameters"));
    }
    let target = &item.self_ty;
    let methods: Vec<&ImplItemFn> = item
        .items
        .iter()
        .filter_map(|item| if let ImplItem::Fn(method) = item { Some(method) } else { None })
        .collect();
    let open = methods.iter().find(|method| method.sig.ident == "open");
    let calls: Vec<_> = methods.iter().filter(|method| method.sig.ident != "open").collect();
    let [call] = calls[..] else {
        let message =
            "there is one UDF in a #[udf] impl: `open`, and one method; put others in an `impl` block of their own";
        return Err(Error::new_spanned(calls.get(1).map_or(quote!(#target), |method| quote!(#method)), message));
    };
    plain(&call.sig)?;
    match call.sig.inputs.first() {
        Some(FnArg::Receiver(receiver)) if receiver.reference.is_some() && receiver.mutability.is_none() => {}
        _ => {
            return Err(Error::new_spanned(
                &call.sig,
                "the method takes `&self`: state per key belongs in a process function, not in `self`",
            ));
        }
    }
    let open = match open {
        None => quote!(::std::result::Result::Ok(<#target as ::std::default::Default>::default())),
        Some(open) => match &open.sig.output {
            ReturnType::Type(..) if given(&open.sig)?.fails => {
                quote!(<#target>::open(context).map_err(sdk::error_text))
            }
            ReturnType::Type(..) => quote!(::std::result::Result::Ok(<#target>::open(context))),
            ReturnType::Default => {
                return Err(Error::new_spanned(&open.sig, "`open` gives `Result<Self, _>` or `Self`"));
            }
        },
    };
    let method = &call.sig.ident;
    let mut documented = documentation(&call.attrs);
    if documented.is_empty() {
        documented = documentation(&item.attrs);
    }
    let udf = Udf {
        options,
        signature: &call.sig,
        target: quote!(#target),
        open,
        callee: quote!(self.#method),
        documentation: documented,
    };
    let expanded = udf.expand()?;
    Ok(quote! {
        #item
        #expanded
    })
}

/// `#[udf] impl Aggregate for Type`, `#[udf] impl Process for Type`.
fn trait_impl(options: &Options, item: &ItemImpl) -> Result<TokenStream> {
    let (_, path, _) = item.trait_.as_ref().expect("the caller looked");
    if options.kind.is_some() {
        return Err(Error::new_spanned(path, "the trait says the kind: write #[udf] alone"));
    }
    let last = path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
    let (module, input, output) = match last.as_str() {
        "Aggregate" => (quote!(aggregate), quote!(Input), quote!(Output)),
        "Process" => (quote!(process), quote!(In), quote!(Out)),
        _ => return Err(Error::new_spanned(path, "a UDF is an `impl Aggregate for …` or an `impl Process for …`")),
    };
    let target = &item.self_ty;
    let Type::Path(target_path) = &**target else {
        return Err(Error::new_spanned(target, "a UDF is a struct"));
    };
    let own = target_path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
    let name = options.name.clone().unwrap_or(own);
    let meta = meta(options, &name, &[], &documentation(&item.attrs));
    Ok(quote! {
        #item

        const _: () = {
            use ::wasmill_udf::__private as sdk;
            const META: sdk::Meta = #meta;

            impl sdk::Function for #target {
                type Writers = <<#target as #path>::#input as sdk::Input<'static>>::Writers;
                type Input<'f> = <#target as #path>::#input;
                type Output<'f> = <#target as #path>::#output;

                fn describe() -> sdk::Description {
                    sdk::#module::describe::<#target>(META)
                }

                fn bind(
                    binding: &sdk::Binding,
                    context: &::wasmill_udf::OpenContext<'_>,
                ) -> ::std::result::Result<sdk::Bound, sdk::Problem> {
                    sdk::#module::bind::<#target>(META, binding, context)
                }
            }
        };
    })
}

fn plain(signature: &Signature) -> Result<()> {
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(token, "async UDFs are not in this version of the contract"));
    }
    match signature.generics.type_params().next() {
        Some(param) => Err(Error::new_spanned(param, "a UDF has no type parameters")),
        None => Ok(()),
    }
}

fn meta(options: &Options, name: &str, arguments: &[String], documentation: &str) -> TokenStream {
    let name = options.name.as_deref().unwrap_or(name);
    let deterministic = !options.nondeterministic;
    quote! {
        sdk::Meta { name: #name, arguments: &[#(#arguments),*], documentation: #documentation, deterministic: #deterministic }
    }
}

/// A function or method that becomes a UDF.
struct Udf<'u> {
    options: &'u Options,
    signature: &'u Signature,
    target: TokenStream,
    open: TokenStream,
    callee: TokenStream,
    documentation: String,
}

impl Udf<'_> {
    fn expand(&self) -> Result<TokenStream> {
        let kind = self.options.kind.unwrap_or_default();
        let arguments = arguments(self.signature)?;
        let given = given(self.signature)?;
        let names: Vec<String> = arguments.iter().map(|(name, _)| name.clone()).collect();
        let types: Vec<Type> = arguments.iter().map(|(_, data_type)| named(data_type, "'f")).collect();
        let meta = meta(self.options, &self.signature.ident.to_string(), &names, &self.documentation);
        let (module, parts) = match kind {
            Kind::Scalar | Kind::Filter | Kind::Map => (quote!(one_to_one), self.one_to_one(kind, &types, &given)?),
            Kind::Table => (quote!(table), self.table(&types, &given)?),
            Kind::Vectorized => (quote!(vectorized), self.vectorized(&types, &given)?),
            Kind::Reduce => (quote!(reduce), self.reduce(&types, &given)?),
        };
        let (target, open) = (&self.target, &self.open);
        let Parts { implemented, members, input, output } = parts;
        let owned = named_static(&input)?;
        Ok(quote! {
            const _: () = {
                use ::wasmill_udf::__private as sdk;

                impl sdk::#implemented for #target {
                    const META: sdk::Meta = #meta;

                    #[allow(unused_variables)]
                    fn open(context: &::wasmill_udf::OpenContext<'_>) -> ::std::result::Result<Self, ::std::string::String> {
                        #open
                    }

                    #members
                }

                impl sdk::Function for #target {
                    type Writers = <#owned as sdk::Input<'static>>::Writers;
                    type Input<'f> = #input;
                    type Output<'f> = #output;

                    fn describe() -> sdk::Description {
                        sdk::#module::describe::<#target>()
                    }

                    fn bind(
                        binding: &sdk::Binding,
                        context: &::wasmill_udf::OpenContext<'_>,
                    ) -> ::std::result::Result<sdk::Bound, sdk::Problem> {
                        sdk::#module::bind::<#target>(binding, context)
                    }
                }
            };
        })
    }

    /// The call with its error as a text.
    fn called(&self, given: &Given, arguments: TokenStream) -> TokenStream {
        let callee = &self.callee;
        if given.fails {
            quote!(#callee(#arguments).map_err(sdk::error_text))
        } else {
            quote!(::std::result::Result::Ok(#callee(#arguments)))
        }
    }

    /// The type of all arguments, and how they are passed on. A struct that is the only argument of a table function, filter or map is
    /// the row: its fields are the columns. A scalar function's arguments are a column each.
    fn spread(&self, kind: Kind, types: &[Type]) -> (TokenStream, TokenStream) {
        match types {
            [row] if kind != Kind::Scalar => (quote!(#row), quote!(args)),
            types => {
                let each = (0..types.len()).map(syn::Index::from);
                (quote!((#(#types,)*)), quote!(#(args.#each),*))
            }
        }
    }

    fn one_to_one(&self, kind: Kind, types: &[Type], given: &Given) -> Result<Parts> {
        let (input, passed) = self.spread(kind, types);
        let called = self.called(given, passed);
        let output = named(&given.value, "'f");
        let owned = named(&given.value, "'static");
        let kind_name = match kind {
            Kind::Filter => quote!(Filter),
            Kind::Map => quote!(Map),
            _ => quote!(Scalar),
        };
        if kind == Kind::Filter && !matches!(&given.value, Type::Path(path) if path.path.is_ident("bool")) {
            return Err(Error::new_spanned(&given.value, "a filter gives `bool` or `Result<bool, _>`"));
        }
        Ok(Parts {
            implemented: quote!(OneToOne),
            members: quote! {
                const KIND: sdk::Kind = sdk::Kind::#kind_name;
                type Args<'f> = #input;
                type Writer = <#owned as sdk::ToColumn>::Writer;
                type Output<'f> = #output;

                #[inline(always)]
                #[allow(unused_variables)]
                fn call<'f>(&self, args: Self::Args<'f>) -> ::std::result::Result<Self::Output<'f>, ::std::string::String> {
                    #called
                }
            },
            input,
            output: quote!(#output),
        })
    }

    fn table(&self, types: &[Type], given: &Given) -> Result<Parts> {
        let (input, passed) = self.spread(Kind::Table, types);
        let callee = &self.callee;
        let item = item_of(&given.value)?;
        let rows = match given.fails {
            true => quote!(#callee(#passed).map(::std::iter::IntoIterator::into_iter).map_err(sdk::error_text)),
            false => quote!(::std::result::Result::Ok(::std::iter::IntoIterator::into_iter(#callee(#passed)))),
        };
        Ok(Parts {
            implemented: quote!(Table),
            members: quote! {
                type Args<'f> = #input;
                type Item = #item;

                #[inline]
                #[allow(unused_variables)]
                fn call(
                    &self,
                    args: Self::Args<'_>,
                ) -> ::std::result::Result<impl ::std::iter::Iterator<Item = Self::Item> + 'static, ::std::string::String> {
                    #rows
                }
            },
            input,
            output: quote!(#item),
        })
    }

    fn vectorized(&self, types: &[Type], given: &Given) -> Result<Parts> {
        if types.is_empty() {
            return Err(Error::new_spanned(
                self.signature,
                "a vectorized UDF takes at least one `Column<'_, T>`: it says how many rows there are",
            ));
        }
        let each = (0..types.len()).map(syn::Index::from);
        let called = self.called(given, quote!(#(columns.#each),*));
        let item = item_of(&given.value)?;
        Ok(Parts {
            implemented: quote!(Vectorized),
            members: quote! {
                type Columns<'f> = (#(#types,)*);
                type Item = #item;

                #[inline]
                fn call(&self, columns: Self::Columns<'_>) -> ::std::result::Result<::std::vec::Vec<Self::Item>, ::std::string::String> {
                    #called
                }
            },
            input: quote!(sdk::RowOf<'f, Self>),
            output: quote!(#item),
        })
    }

    fn reduce(&self, types: &[Type], given: &Given) -> Result<Parts> {
        let item = &given.value;
        if types.len() != 2 || types.iter().any(|argument| quote!(#argument).to_string() != quote!(#item).to_string()) {
            return Err(Error::new_spanned(
                self.signature,
                "a reduce takes two values of one type and gives one of it: `fn(a: T, b: T) -> T`",
            ));
        }
        let called = self.called(given, quote!(first, second));
        Ok(Parts {
            implemented: quote!(Reduce),
            members: quote! {
                type Item = #item;

                #[inline]
                fn call(&self, first: Self::Item, second: Self::Item) -> ::std::result::Result<Self::Item, ::std::string::String> {
                    #called
                }
            },
            input: quote!((#item,)),
            output: quote!(#item),
        })
    }
}

/// The type of the input where it borrows from something that lives for ever.
fn named_static(input: &TokenStream) -> Result<Type> {
    let lifetime = syn::Lifetime::new("'f", proc_macro2::Span::call_site());
    Ok(with_lifetime(&syn::parse2(input.clone())?, &lifetime, "'static"))
}

/// What differs between kinds.
struct Parts {
    implemented: TokenStream,
    members: TokenStream,
    input: TokenStream,
    output: TokenStream,
}
