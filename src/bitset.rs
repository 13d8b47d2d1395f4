//! A set of named flags, written and read as words.

/// Defines a `Copy` set of flags with names.
macro_rules! bitset {
    ($(#[$doc:meta])* pub struct $Name:ident { $($(#[$flag_doc:meta])* $FLAG:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $Name(u32);

        impl $Name {
            $($(#[$flag_doc])* pub const $FLAG: Self = Self($bit);)*
            const NAMES: &[(Self, &'static str)] = &[$((Self::$FLAG, $text)),*];

            /// None of them.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Whether all flags of `other` are in this set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The flags of `self` that are not in `other`.
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether no flag is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Its flags, each by itself.
            pub fn iter(self) -> impl Iterator<Item = Self> {
                Self::NAMES.iter().map(|(flag, _)| *flag).filter(move |flag| self.contains(*flag))
            }

            /// The set of these words.
            ///
            /// # Errors
            /// `InvalidArgument`, listing the words there are.
            pub fn parse_all<'a>(words: impl IntoIterator<Item = &'a str>) -> $crate::Result<Self> {
                let mut set = Self::empty();
                for word in words {
                    let found = Self::NAMES.iter().find(|(_, name)| *name == word).ok_or_else(|| {
                        let known: Vec<_> = Self::NAMES.iter().map(|(_, name)| *name).collect();
                        $crate::Error::new(
                            $crate::ErrorKind::InvalidArgument,
                            format!("{word:?} is not one of {}; use those", known.join(", ")),
                        )
                    })?;
                    set = set | found.0;
                }
                Ok(set)
            }
        }

        impl std::ops::BitOr for $Name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let words: Vec<_> =
                    Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect();
                f.write_str(&words.join("+"))
            }
        }
    };
}
