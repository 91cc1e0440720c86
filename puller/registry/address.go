package registry

import (
	"encoding/binary"
	"net/netip"
)

// A reach says how far into a network an address leads.
type reach int

const (
	public    reach = iota
	private         // loopback, private and shared networks
	linkLocal       // link-local, where clouds serve a machine's secrets, and what is no host at all
)

// reachOf classifies an address. IPv4 addresses inside IPv6 ones count as what
// they lead to.
func reachOf(addr netip.Addr) reach {
	addr = embedded(addr.Unmap()).WithZone("")
	switch {
	case !addr.IsValid(), addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr == broadcast():
		return linkLocal
	case addr.IsLoopback(), addr.IsPrivate(), addr.IsUnspecified(), shared(addr):
		return private
	}
	return public
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// shared reports whether addr is of the shared address space of carriers and
// cloud networks (RFC 6598) or of "this network" (RFC 1122), which some
// systems treat as loopback.
func shared(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	b := addr.As4()
	return b[0] == 100 && b[1]&0xc0 == 64 || b[0] == 0
}

// embedded returns the IPv4 address inside a NAT64 address (RFC 6052, RFC
// 8215) and addr itself otherwise.
func embedded(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	b := addr.As16()
	head := binary.BigEndian.Uint64(b[:8])
	if head == 0x0064ff9b_00000000 && binary.BigEndian.Uint32(b[8:12]) == 0 || head>>16 == 0x0064ff9b_0001 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}
