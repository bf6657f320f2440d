//! The classifier against the IANA special-purpose registries, which `tests/data` holds apart from the tables it uses.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn class(text: &str) -> AddressClass {
    classify(text.parse().unwrap())
}

/// (first address, last address) of every special block, of both families.
fn special() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../../../tests/data/special-purpose-addresses.txt").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().zip(words.next())
    })
}

static SPECIAL_V4: LazyLock<Vec<(u32, u32)>> = LazyLock::new(|| {
    let blocks = special().filter(|(first, _)| !first.contains(':'));
    blocks.map(|(first, last)| (bits_v4(first), bits_v4(last))).collect()
});

static SPECIAL_V6: LazyLock<Vec<(u128, u128)>> = LazyLock::new(|| {
    let blocks = special().filter(|(first, _)| first.contains(':'));
    blocks.map(|(first, last)| (bits_v6(first), bits_v6(last))).collect()
});

fn bits_v4(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

fn bits_v6(text: &str) -> u128 {
    text.parse::<Ipv6Addr>().unwrap().to_bits()
}

fn in_special_v4(bits: u32) -> bool {
    SPECIAL_V4.iter().any(|(first, last)| (*first..=*last).contains(&bits))
}

#[test]
fn both_ends_of_every_special_block_are_refused_and_their_neighbours_are_not() {
    assert_eq!((SPECIAL_V4.len(), SPECIAL_V6.len()), (18, 24), "every line is read");
    for (first, last) in SPECIAL_V4.iter().copied() {
        for bits in [first, first + (last - first) / 2, last] {
            let address = Ipv4Addr::from_bits(bits);
            assert_ne!(classify(address.into()), AddressClass::Public, "{address}");
        }
        for bits in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            let address = Ipv4Addr::from_bits(bits);
            let public = classify(address.into()) == AddressClass::Public;
            assert_eq!(public, !in_special_v4(bits), "{address}");
        }
    }
    for (first, last) in SPECIAL_V6.iter().copied() {
        for bits in [first, first + (last - first) / 2, last] {
            let address = Ipv6Addr::from_bits(bits);
            assert_ne!(classify(address.into()), AddressClass::Public, "{address}");
        }
    }
}

#[test]
fn ipv6_next_to_special_blocks_is_public_inside_global_unicast() {
    for text in [
        "2000::",
        "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:200::",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2001:4860:4860::8888",
        "2003::",
        "2606:4700:4700::1111",
        "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
        "2620:4f:8001::",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
        "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert_eq!(class(text), AddressClass::Public, "{text}");
    }
}

#[test]
fn each_category_has_its_name() {
    for (text, expected) in [
        ("1.1.1.1", AddressClass::Public),
        ("0.0.0.0", AddressClass::Unspecified),
        ("0.1.2.3", AddressClass::Unspecified),
        ("10.1.2.3", AddressClass::Private),
        ("100.64.0.1", AddressClass::SharedAddressSpace),
        ("127.0.0.1", AddressClass::Loopback),
        ("127.255.0.9", AddressClass::Loopback),
        ("169.254.1.1", AddressClass::LinkLocal),
        ("172.31.255.255", AddressClass::Private),
        ("192.0.0.9", AddressClass::ProtocolAssignment),
        ("192.168.1.1", AddressClass::Private),
        ("192.88.99.1", AddressClass::Transition),
        ("198.19.0.1", AddressClass::Benchmarking),
        ("203.0.113.7", AddressClass::Documentation),
        ("224.0.0.1", AddressClass::Multicast),
        ("240.0.0.1", AddressClass::Reserved),
        ("255.255.255.255", AddressClass::Reserved),
        ("::", AddressClass::Unspecified),
        ("::1", AddressClass::Loopback),
        ("::7f00:1", AddressClass::Transition),
        ("::ffff:10.0.0.1", AddressClass::Private),
        ("::ffff:8.8.8.8", AddressClass::Public),
        ("64:ff9b::7f00:1", AddressClass::Loopback),
        ("64:ff9b::808:808", AddressClass::Public),
        ("64:ff9b:1::808:808", AddressClass::Transition),
        ("100::1", AddressClass::Discard),
        ("2001::1", AddressClass::Transition),
        ("2001:2::1", AddressClass::Benchmarking),
        ("2001:20::1", AddressClass::ProtocolAssignment),
        ("2001:db8::1", AddressClass::Documentation),
        ("2002:808:808::1", AddressClass::Transition),
        ("2002:7f00:1::1", AddressClass::Transition),
        ("5f00::1", AddressClass::ProtocolAssignment),
        ("fc00::1", AddressClass::UniqueLocal),
        ("fd12:3456::1", AddressClass::UniqueLocal),
        ("fe80::1", AddressClass::LinkLocal),
        ("fec0::1", AddressClass::Reserved),
        ("ff02::1", AddressClass::Multicast),
        ("::ffff:0:8.8.8.8", AddressClass::Reserved),
    ] {
        assert_eq!(class(text), expected, "{text}");
    }
}

#[test]
fn metadata_is_never_grantable_in_any_form() {
    for text in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
    ] {
        assert_eq!(class(text), AddressClass::Metadata, "{text}");
    }
    assert!(!AddressClass::Metadata.is_grantable());
}

#[test]
fn a_grant_reaches_this_machine_and_private_networks_only() {
    let grantable = ["127.0.0.1", "::1", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd12::1"];
    assert!(grantable.iter().all(|text| class(text).is_grantable()));
    let never = ["0.0.0.0", "169.254.1.1", "fe80::1", "224.0.0.1", "255.255.255.255", "203.0.113.1", "2002:a00:1::"];
    assert!(!never.iter().any(|text| class(text).is_grantable()));
}

proptest! {
    #[test]
    fn no_address_of_a_special_v4_block_is_public(block in 0..SPECIAL_V4.len(), offset in any::<u32>()) {
        let (first, last) = SPECIAL_V4[block];
        let address = Ipv4Addr::from_bits(first + offset % (last - first + 1));
        prop_assert_ne!(classify(address.into()), AddressClass::Public);
    }

    #[test]
    fn no_address_of_a_special_v6_block_is_public(block in 0..SPECIAL_V6.len(), offset in any::<u128>()) {
        let (first, last) = SPECIAL_V6[block];
        let address = Ipv6Addr::from_bits(first + offset % (last - first + 1));
        prop_assert_ne!(classify(address.into()), AddressClass::Public, "{}", address);
    }

    #[test]
    fn v4_is_public_exactly_outside_the_registry(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let class = classify(address.into());
        let metadata = class == AddressClass::Metadata;
        prop_assert!(metadata || (class == AddressClass::Public) != in_special_v4(bits), "{} {:?}", address, class);
    }

    #[test]
    fn only_global_unicast_v6_is_public(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        if classify(address.into()) == AddressClass::Public {
            prop_assert!(bits >> 125 == 1 || embedded_v4(address).is_some(), "{}", address);
        }
    }

    #[test]
    fn wrapped_forms_agree_with_the_address_inside(bits in any::<u32>()) {
        let inner = Ipv4Addr::from_bits(bits);
        let expected = classify(inner.into());
        prop_assert_eq!(classify(inner.to_ipv6_mapped().into()), expected);
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b_u128 << 96) | u128::from(bits));
        prop_assert_eq!(classify(nat64.into()), expected);
        prop_assert_ne!(classify(inner.to_ipv6_compatible().into()), AddressClass::Public);
        let six_to_four = Ipv6Addr::from_bits((0x2002_u128 << 112) | (u128::from(bits) << 80));
        prop_assert_ne!(classify(six_to_four.into()), AddressClass::Public);
    }
}
