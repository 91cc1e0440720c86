package registry

import (
	"encoding/binary"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// An origin is scheme, host and port. A credential belongs to one origin.
type origin struct{ scheme, host, port string }

func originOf(u *url.URL) origin {
	o := origin{strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()}
	if o.port == "" {
		o.port = defaultPort(o.scheme)
	}
	return o
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// loopbackName reports whether a host, without port, is this machine by its name or
// address, without asking a resolver (RFC 6761, section 6.3).
func loopbackName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostOnly returns host[:port] without the port, and an IPv6 address without brackets.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// An addrClass says how strictly the Client limits connections to an address. A larger
// class has stricter limits.
type addrClass int

const (
	public    addrClass = iota
	private             // loopback, private, shared and reserved networks
	linkLocal           // link-local, multicast, broadcast and cloud metadata addresses
)

// classOf returns the class of an address. An IPv6 address that carries IPv4 addresses
// has the strictest class of these, because a gateway sends its packets on to them. If
// the IPv6 address may also be the address of a host, its own class counts, too.
func classOf(addr netip.Addr) addrClass {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return linkLocal
	}
	carried, whole := embedded(addr)
	if len(carried) == 0 {
		return ownClass(addr)
	}
	r := public
	if !whole {
		r = ownClass(addr)
	}
	for _, v4 := range carried {
		r = max(r, ownClass(v4))
	}
	return r
}

// ownClass returns the class of an address, without the classes of the IPv4 addresses
// that it carries.
func ownClass(addr netip.Addr) addrClass {
	switch {
	case addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr == broadcast(), metadata(addr):
		return linkLocal
	case addr.IsLoopback(), addr.IsPrivate(), addr.IsUnspecified(), reserved(addr):
		return private
	}
	return public
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// metadata reports whether addr is an address, other than a link-local one, at which a
// cloud serves a machine's secrets. The addresses are from the documentation of the
// clouds.
func metadata(addr netip.Addr) bool {
	switch addr.String() {
	case "168.63.129.16", // Azure
		"100.100.100.200",    // Alibaba Cloud
		"192.0.0.192",        // Oracle Cloud, Classic
		"fd00:100::100:200",  // Alibaba Cloud
		"fd20:ce::254",       // Google Cloud
		"fd00:c1::a9fe:a9fe", // Oracle Cloud
		"fd00:42::42",        // Scaleway
		"fd00:a9fe:a9fe::1":  // Linode
		return true
	}
	// AWS: the instance metadata service, Pod identities and the time and name
	// servers next to it.
	return addr.Is6() && binary.BigEndian.Uint64(first8(addr)) == 0xfd00_0ec2_0000_0000
}

func first8(addr netip.Addr) []byte {
	b := addr.As16()
	return b[:8]
}

// reserved reports whether addr is in a range that the internet does not route and that
// some networks use internally: shared address space (RFC 6598), "this network" (RFC
// 1122), protocol assignments (RFC 6890), benchmarking (RFC 2544), 240.0.0.0/4 (RFC
// 1112), IPv6 site-local addresses (RFC 3879) and local NAT64 (RFC 8215).
func reserved(addr netip.Addr) bool {
	if addr.Is6() {
		b := addr.As16()
		return b[0] == 0xfe && b[1]&0xc0 == 0xc0 || localNAT64(addr)
	}
	b := addr.As4()
	switch b[0] {
	case 0:
		return true
	case 100:
		return b[1]&0xc0 == 64
	case 192:
		return b[1] == 0 && b[2] == 0
	case 198:
		return b[1]&0xfe == 18
	}
	return b[0] >= 240
}

// embedded returns the IPv4 addresses in addr, to which a gateway sends packets for addr.
// whole reports whether addr is used only to carry them. Otherwise addr may also be the
// address of a host.
func embedded(addr netip.Addr) (carried []netip.Addr, whole bool) {
	if !addr.Is6() {
		return nil, false
	}
	b := addr.As16()
	v4 := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at : at+4])) }
	head, tail := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint32(b[8:12])
	switch {
	case head == 0x0064ff9b_00000000 && tail == 0: // NAT64 (RFC 6052)
		return []netip.Addr{v4(12)}, true
	case localNAT64(addr): // after a prefix of 48, 56, 64 or 96 bits; bits 64 to 71 are skipped
		at := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
		return []netip.Addr{at(6, 7, 9, 10), at(7, 9, 10, 11), at(9, 10, 11, 12), v4(12)}, false
	case head == 0 && tail == 0xffff0000: // IPv4-translated (RFC 2765)
		return []netip.Addr{v4(12)}, true
	case head == 0 && tail == 0 && binary.BigEndian.Uint32(b[12:]) > 1: // IPv4-compatible (RFC 4291), except :: and ::1
		return []netip.Addr{v4(12)}, true
	case b[0] == 0x20 && b[1] == 0x02: // 6to4 (RFC 3056)
		carried = []netip.Addr{v4(2)}
		if isatap(tail) {
			carried = append(carried, v4(12))
		}
		return carried, true
	case head>>32 == 0x2001_0000: // Teredo (RFC 4380): the server, and the client with all bits inverted
		client := binary.BigEndian.AppendUint32(nil, ^binary.BigEndian.Uint32(b[12:]))
		return []netip.Addr{v4(4), netip.AddrFrom4([4]byte(client))}, true
	case isatap(tail): // below any prefix
		return []netip.Addr{v4(12)}, false
	}
	return nil, false
}

// isatap reports whether the bits 64 to 95 of an address are those of ISATAP (RFC 5214).
func isatap(bits uint32) bool { return bits&^0x0200_0000 == 0x0000_5efe }

// localNAT64 reports whether addr is in 64:ff9b:1::/48, which a network uses for its own
// NAT64 (RFC 8215) with a prefix of any length that RFC 6052 defines.
func localNAT64(addr netip.Addr) bool {
	return binary.BigEndian.Uint64(first8(addr))>>16 == 0x0064_ff9b_0001
}
