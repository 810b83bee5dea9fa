//! `#[derive(Row)]`

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Lifetime, LitStr, Result};

struct RowField<'i> {
    ident: &'i syn::Ident,
    data_type: syn::Type,
    name: String,
}

fn fields(item: &DeriveInput) -> Result<Vec<RowField<'_>>> {
    let Data::Struct(data) = &item.data else {
        return Err(Error::new_spanned(&item.ident, "only a struct can be a row"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(&item.ident, "a row has named fields: they are the columns' names"));
    };
    if fields.named.is_empty() {
        return Err(Error::new_spanned(&item.ident, "a row has at least one field"));
    }
    let mut rows: Vec<RowField<'_>> = Vec::new();
    for field in &fields.named {
        let ident = field.ident.as_ref().expect("named fields have names");
        let mut name = ident.to_string().trim_start_matches("r#").to_owned();
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("name") {
                    return Err(meta.error("there is only #[row(name = \"…\")]"));
                }
                name = meta.value()?.parse::<LitStr>()?.value();
                Ok(())
            })?;
        }
        if rows.iter().any(|before| before.name == name) {
            return Err(Error::new_spanned(ident, format!("there are two fields `{name}`")));
        }
        rows.push(RowField { ident, data_type: field.ty.clone(), name });
    }
    Ok(rows)
}

/// The struct's lifetime, if it has one; it may have no other parameters.
fn lifetime(item: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut params = item.generics.params.iter();
    match (params.next(), params.next()) {
        (None, _) => Ok(None),
        (Some(GenericParam::Lifetime(param)), None) => Ok(Some(param.lifetime.clone())),
        (Some(first), _) => Err(Error::new_spanned(first, "a row may have one lifetime and no other parameters")),
    }
}

pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(input)?;
    let fields = fields(&item)?;
    let own = lifetime(&item)?;
    let frame = own.clone().unwrap_or_else(|| Lifetime::new("'frame", proc_macro2::Span::call_site()));
    let row = &item.ident;
    let (generics, arguments) = match &own {
        Some(lifetime) => (quote!(<#lifetime>), quote!(<#lifetime>)),
        None => (quote!(), quote!()),
    };
    let parts = Parts {
        row: quote!(#row #arguments),
        generics,
        frame,
        types: fields.iter().map(|field| field.data_type.clone()).collect(),
        names: fields.iter().map(|field| field.name.clone()).collect(),
        idents: fields.iter().map(|field| field.ident.clone()).collect(),
        columns: (0..fields.len()).map(|at| format_ident!("column_{at}")).collect(),
        reader: format_ident!("{}Reader", row),
        writer: format_ident!("{}Writer", row),
    };
    let (typed, read, write, input) = (parts.typed(), parts.read(), parts.write(), parts.input());
    let codec = if own.is_none() { parts.codec() } else { quote!() };
    Ok(quote! {
        const _: () = {
            use ::wasmill_udf::__private as sdk;
            #typed
            #read
            #write
            #input
            #codec
        };
    })
}

struct Parts {
    row: TokenStream,
    generics: TokenStream,
    frame: Lifetime,
    types: Vec<syn::Type>,
    names: Vec<String>,
    idents: Vec<syn::Ident>,
    columns: Vec<syn::Ident>,
    reader: syn::Ident,
    writer: syn::Ident,
}

impl Parts {
    fn typed(&self) -> TokenStream {
        let Self { row, generics, types, names, .. } = self;
        quote! {
            impl #generics sdk::Typed for #row {
                fn data_type() -> sdk::DataType {
                    sdk::DataType::of(sdk::Shape::Struct(::std::vec![#(sdk::field_of::<#types>(#names)),*]))
                }
            }
            impl #generics sdk::NonNull for #row {}
            impl #generics sdk::ListItem for #row {}
            impl #generics ::wasmill_udf::Row for #row {
                const FIELDS: &'static [&'static str] = &[#(#names),*];
            }
        }
    }

    fn read(&self) -> TokenStream {
        let Self { row, frame, types, names, idents, columns, reader, .. } = self;
        quote! {
            pub struct #reader<#frame> {
                validity: sdk::Validity<#frame>,
                #(#columns: <#types as sdk::FromColumn<#frame>>::Reader,)*
            }

            impl<#frame> sdk::Reader for #reader<#frame> {
                #[inline(always)]
                fn is_null(&self, row: usize) -> bool {
                    self.validity.is_null(row)
                }

                #[inline(always)]
                fn has_nulls(&self) -> bool {
                    self.validity.has_nulls()
                }
            }

            impl<#frame> sdk::FromColumn<#frame> for #row {
                type Reader = #reader<#frame>;

                fn open(slots: &mut sdk::Slots<#frame>, rows: usize) -> ::std::result::Result<Self::Reader, sdk::FrameError> {
                    ::std::result::Result::Ok(#reader {
                        validity: sdk::Validity::open(slots, rows)?,
                        #(#columns: <#types as sdk::FromColumn<#frame>>::open(slots, rows)?,)*
                    })
                }

                #[inline(always)]
                unsafe fn get(reader: &Self::Reader, row: usize) -> ::std::result::Result<Self, sdk::NullFound> {
                    // SAFETY: the caller's promise; the fields have as many rows as the struct.
                    unsafe {
                        ::std::result::Result::Ok(Self {
                            #(#idents: sdk::field::<#types>(&reader.#columns, row, #names)?,)*
                        })
                    }
                }
            }
        }
    }

    fn write(&self) -> TokenStream {
        let Self { row, generics, types, idents, columns, writer, frame, .. } = self;
        // The writers of borrowed types do not borrow: `'static` stands for any lifetime.
        let owned: Vec<syn::Type> =
            types.iter().map(|data_type| crate::signature::with_lifetime(data_type, frame, "'static")).collect();
        quote! {
            #[derive(::std::default::Default)]
            pub struct #writer {
                nulls: sdk::Nulls,
                rows: usize,
                #(#columns: <#owned as sdk::ToColumn>::Writer,)*
            }

            impl #writer {
                fn fill(&mut self) {
                    #(if <#owned as sdk::Typed>::NULLABLE {
                        sdk::ColumnWriter::null(&mut self.#columns);
                    } else {
                        sdk::ColumnWriter::hole(&mut self.#columns);
                    })*
                    self.rows += 1;
                }
            }

            impl sdk::ColumnWriter for #writer {
                fn len(&self) -> usize {
                    self.rows
                }

                fn null(&mut self) {
                    self.nulls.set(self.rows);
                    self.fill();
                }

                fn hole(&mut self) {
                    self.fill();
                }

                fn truncate(&mut self, len: usize) {
                    self.rows = len;
                    self.nulls.truncate(len);
                    #(sdk::ColumnWriter::truncate(&mut self.#columns, len);)*
                }

                fn reserve(&mut self, rows: usize) {
                    #(sdk::ColumnWriter::reserve(&mut self.#columns, rows);)*
                }

                fn bytes(&self) -> usize {
                    0 #(+ sdk::ColumnWriter::bytes(&self.#columns))*
                }

                fn set_null(&mut self, row: usize) {
                    self.nulls.set(row);
                }

                fn write(&self, frame: &mut sdk::FrameWriter) {
                    self.nulls.write(frame, self.rows);
                    #(sdk::ColumnWriter::write(&self.#columns, frame);)*
                }
            }

            impl #generics sdk::ToColumn for #row {
                type Writer = #writer;

                #[inline(always)]
                fn push_to(&self, writer: &mut Self::Writer) {
                    #(sdk::ToColumn::push_to(&self.#idents, &mut writer.#columns);)*
                    writer.rows += 1;
                }
            }
        }
    }

    fn input(&self) -> TokenStream {
        let Self { row, frame, types, names, idents, columns, reader, writer, .. } = self;
        let numbers = 0..types.len();
        quote! {
            impl<#frame> sdk::Input<#frame> for #row {
                type Readers = #reader<#frame>;
                type Writers = #writer;

                fn fields(_names: &[&str]) -> ::std::vec::Vec<sdk::Field> {
                    ::std::vec![#(sdk::field_of::<#types>(#names)),*]
                }

                fn open(slots: &mut sdk::Slots<#frame>, rows: usize) -> ::std::result::Result<Self::Readers, sdk::FrameError> {
                    ::std::result::Result::Ok(#reader {
                        validity: ::std::default::Default::default(),
                        #(#columns: <#types as sdk::FromColumn<#frame>>::open(slots, rows)?,)*
                    })
                }

                #[inline(always)]
                fn has_nulls(readers: &Self::Readers) -> bool {
                    false #(|| sdk::may_miss::<#types>(&readers.#columns))*
                }

                #[inline(always)]
                fn missing(readers: &Self::Readers, row: usize) -> bool {
                    false #(|| sdk::missing::<#types>(&readers.#columns, row))*
                }

                #[inline(always)]
                unsafe fn get(readers: &Self::Readers, row: usize) -> ::std::result::Result<Self, sdk::NullFound> {
                    // SAFETY: the caller's promise.
                    unsafe {
                        ::std::result::Result::Ok(Self {
                            #(#idents: sdk::argument::<#types>(&readers.#columns, row, #numbers)?,)*
                        })
                    }
                }

                fn writers() -> Self::Writers {
                    ::std::default::Default::default()
                }

                fn push_to(&self, writers: &mut Self::Writers) {
                    sdk::ToColumn::push_to(self, writers);
                }

                fn write(writers: &Self::Writers, frame: &mut sdk::FrameWriter) {
                    #(sdk::ColumnWriter::write(&writers.#columns, frame);)*
                }
            }
        }
    }

    fn codec(&self) -> TokenStream {
        let Self { row, types, idents, .. } = self;
        quote! {
            // A row need not be storable as a whole: the bound says when it is.
            impl sdk::Codec for #row
            where
                #(#types: sdk::Codec,)*
            {
                fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                    #(sdk::Codec::encode(&self.#idents, out);)*
                }

                fn decode(bytes: &mut &[u8]) -> ::std::result::Result<Self, sdk::CodecError> {
                    ::std::result::Result::Ok(Self { #(#idents: <#types as sdk::Codec>::decode(bytes)?,)* })
                }
            }
        }
    }
}
