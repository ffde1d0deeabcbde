//! The macros that declare keys and the enumerations of their values. A key that is declared with
//! `keys!` is always in the list of its section, so no list can omit a key. The generated code must
//! name every item with its full path, because the macros are used in other modules. Start reading
//! at `keys`.

/// Declares the keys of a section as constants, and the list of their definitions.
///
/// `..GROUP` adds the keys of a group that several sections share.
macro_rules! keys {
    (
        $(#[$about:meta])* $visible:vis const $list:ident;
        $(.. $group:path;)*
        $($(#[$key_about:meta])* $name:ident: $key:ty = $value:expr;)*
    ) => {
        $($(#[$key_about])* $visible const $name: $key = $value;)*

        $(#[$about])*
        $visible const $list: &[$crate::settings::KeyDefinition] = {
            const LISTS: &[&[$crate::settings::KeyDefinition]] =
                &[&[$($name.define()),*] $(, $group)*];
            const ALL: [$crate::settings::KeyDefinition; $crate::settings::count_keys(LISTS)] =
                $crate::settings::join_keys(LISTS);
            &ALL
        };
    };
}

/// Declares an enumeration whose values have names in the configuration.
macro_rules! choices {
    (
        $(#[$about:meta])* $visible:vis enum $kind:ident {
            $($(#[$value_about:meta])* $value:ident = $name:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visible enum $kind {
            $($(#[$value_about])* $value,)*
        }

        impl $kind {
            /// The names of all values.
            $visible const NAMES: &'static [&'static str] = &[$($name),*];

            /// The value with its name.
            #[allow(dead_code, reason = "only a default needs it")]
            $visible const fn choice(self) -> $crate::settings::Choice<Self> {
                let name = match self {
                    $(Self::$value => $name,)*
                };
                $crate::settings::Choice { name, value: self }
            }
        }

        impl $crate::settings::Choices for $kind {
            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}

/// The names of all values of an enumeration that is declared elsewhere, in the order of its
/// constant `ALL`.
macro_rules! names {
    ($kind:ident) => {{
        const NAMES: [&str; $kind::ALL.len()] = {
            let mut names = [""; $kind::ALL.len()];
            let mut index = 0;
            while index < names.len() {
                names[index] = $kind::ALL[index].as_str();
                index += 1;
            }
            names
        };
        &NAMES
    }};
}

pub(crate) use choices;
pub(crate) use keys;
pub(crate) use names;
