//! What kind of address an IP address is, and so whether it may be dialled.
//!
//! Closed by default: only globally reachable unicast is [`AddressClass::Public`]. Everything the IANA special-purpose
//! registries name is refused by its category, including the few blocks that are technically reachable (AS112, AMT,
//! the anycast relays), because no plugin has business there. IPv6 outside `2000::/3` is refused whatever it is.
//!
//! An IPv6 address that carries an IPv4 address for a host to unwrap (`::ffff:0:0/96`, `64:ff9b::/96`) is judged by
//! the address inside. Older wrappings (6to4, Teredo, IPv4-compatible) are refused whole.
//!
//! This module knows nothing of names, grants or sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Globally reachable unicast: the only class that is dialled without a grant.
    Public,
    /// A cloud provider's instance metadata or control service. Never dialled, whatever is granted: it hands out the
    /// machine's own credentials.
    Metadata,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918).
    Private,
    /// A private network (IPv6 unique local).
    UniqueLocal,
    /// Carrier-grade NAT (`100.64.0.0/10`), also used by overlay networks.
    SharedAddressSpace,
    /// The local link.
    LinkLocal,
    /// "This network", the unspecified address.
    Unspecified,
    /// Many receivers.
    Multicast,
    /// Reserved for examples in texts.
    Documentation,
    /// Reserved for benchmarks of network equipment.
    Benchmarking,
    /// A mechanism that carries IPv4 in IPv6 (or its relays): what it reaches cannot be judged from the address.
    Transition,
    /// Assigned to one protocol or service.
    ProtocolAssignment,
    /// Thrown away by routers.
    Discard,
    /// Everything else that is not globally reachable.
    Reserved,
}

impl AddressClass {
    /// Whether a grant for private hosts allows dialling it: this machine and private networks, nothing else.
    #[must_use]
    pub fn is_grantable(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::UniqueLocal | Self::SharedAddressSpace)
    }

    /// The class in words that fit into "... resolves to {words}".
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Metadata => "a cloud metadata address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::UniqueLocal => "a unique local (private) address",
            Self::SharedAddressSpace => "a shared (carrier-grade NAT) address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Documentation => "an address reserved for documentation",
            Self::Benchmarking => "an address reserved for benchmarking",
            Self::Transition => "an address of an IPv4-in-IPv6 transition mechanism",
            Self::ProtocolAssignment => "an address assigned to one protocol",
            Self::Discard => "a discard-only address",
            Self::Reserved => "a reserved address",
        }
    }
}

/// The class of an address.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// Addresses and blocks on which cloud providers serve metadata or control. Looked up before the tables below.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254), // nearly every provider
    Ipv4Addr::new(169, 254, 170, 2),   // AWS container credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS pod identity
    Ipv4Addr::new(169, 254, 0, 23),    // Tencent
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
    Ipv4Addr::new(168, 63, 129, 16),   // Azure, inside otherwise public space
];
const METADATA_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32), // AWS link services
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), // Google
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128), // Oracle
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128), // Scaleway
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128), // OpenStack
];

/// IPv4 blocks that are not public; no two overlap with different classes. Address space not listed is public.
const BLOCKS_V4: &[(Ipv4Addr, u32, AddressClass)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, AddressClass::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, AddressClass::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, AddressClass::SharedAddressSpace),
    (Ipv4Addr::new(127, 0, 0, 0), 8, AddressClass::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, AddressClass::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, AddressClass::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, AddressClass::ProtocolAssignment),
    (Ipv4Addr::new(192, 0, 2, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(192, 31, 196, 0), 24, AddressClass::ProtocolAssignment),
    (Ipv4Addr::new(192, 52, 193, 0), 24, AddressClass::ProtocolAssignment),
    (Ipv4Addr::new(192, 88, 99, 0), 24, AddressClass::Transition),
    (Ipv4Addr::new(192, 168, 0, 0), 16, AddressClass::Private),
    (Ipv4Addr::new(192, 175, 48, 0), 24, AddressClass::ProtocolAssignment),
    (Ipv4Addr::new(198, 18, 0, 0), 15, AddressClass::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, AddressClass::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, AddressClass::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, AddressClass::Reserved),
];

/// IPv6 blocks in the order they are looked up: a narrower block stands before the one that contains it. What no
/// block names is public inside `2000::/3` and reserved outside.
const BLOCKS_V6: &[(Ipv6Addr, u32, AddressClass)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, AddressClass::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, AddressClass::Loopback),
    (Ipv6Addr::UNSPECIFIED, 96, AddressClass::Transition),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, AddressClass::Transition),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 63, AddressClass::Discard),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, AddressClass::Transition),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, AddressClass::Benchmarking),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, AddressClass::ProtocolAssignment),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, AddressClass::Documentation),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, AddressClass::Transition),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, AddressClass::ProtocolAssignment),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, AddressClass::Documentation),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, AddressClass::ProtocolAssignment),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, AddressClass::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::Reserved),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, AddressClass::Multicast),
];

const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn within_v4(address: Ipv4Addr, block: Ipv4Addr, prefix_bits: u32) -> bool {
    let mask = u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0);
    address.to_bits() & mask == block.to_bits() & mask
}

fn within_v6(address: Ipv6Addr, block: Ipv6Addr, prefix_bits: u32) -> bool {
    let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
    address.to_bits() & mask == block.to_bits() & mask
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    if METADATA_V4.contains(&address) {
        return AddressClass::Metadata;
    }
    BLOCKS_V4
        .iter()
        .find(|(block, prefix_bits, _)| within_v4(address, *block, *prefix_bits))
        .map_or(AddressClass::Public, |(_, _, class)| *class)
}

/// The IPv4 address in the last 32 bits, when the address is of a kind that a host or gateway unwraps.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let wrapped = [MAPPED, NAT64].iter().any(|(block, prefix_bits)| within_v6(address, *block, *prefix_bits));
    let [.., a, b, c, d] = address.octets();
    wrapped.then(|| Ipv4Addr::new(a, b, c, d))
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if let Some(inner) = embedded_v4(address) {
        return classify_v4(inner);
    }
    if METADATA_V6.iter().any(|(block, prefix_bits)| within_v6(address, *block, *prefix_bits)) {
        return AddressClass::Metadata;
    }
    let listed = BLOCKS_V6.iter().find(|(block, prefix_bits, _)| within_v6(address, *block, *prefix_bits));
    match listed {
        Some((_, _, class)) => *class,
        None if within_v6(address, GLOBAL_UNICAST_V6.0, GLOBAL_UNICAST_V6.1) => AddressClass::Public,
        None => AddressClass::Reserved,
    }
}

#[cfg(test)]
#[path = "tests/address.rs"]
mod tests;
