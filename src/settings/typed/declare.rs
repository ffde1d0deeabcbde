//! The macros that declare keys and the enumerations of their values.

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

pub(crate) use choices;
pub(crate) use keys;
