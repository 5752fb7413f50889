package listeners

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// proxyHeader is what a PROXY header says.
type proxyHeader struct {
	source, target net.Addr // nil if the proxy speaks for itself, or does not know
	tls            proxyTLS
	authority      string
	alpn           string
}

// proxyTLS is what a PROXY header of version 2 says of the client's TLS; an empty
// version means that it says nothing.
type proxyTLS struct {
	version, cipher, commonName string
	verified                    bool
}

var (
	// errProxyShort asks for more bytes: so far it could be a header.
	errProxyShort = errors.New("the header is not complete")
	// errProxyNone says that the bytes do not begin a header of either version.
	errProxyNone = errors.New("no PROXY header")
)

const (
	proxySignature1 = "PROXY "
	proxySignature2 = "\r\n\r\n\x00\r\nQUIT\n"

	longestProxy1 = 107 // bytes of a line, its end included
	// longestProxy2 bounds what is believed of the length in a header, in bytes. It
	// has room for every field that there is, and a proxy's own.
	longestProxy2 = 4096
)

// parseProxy reads the header at the start of b, and returns its length.
func parseProxy(b []byte) (h *proxyHeader, n int, err error) {
	switch {
	case begins(b, proxySignature1):
		return parseProxy1(b)
	case begins(b, proxySignature2):
		return parseProxy2(b)
	}
	return nil, 0, errProxyNone
}

// begins reports whether b begins with the signature, as far as it goes.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// parseProxy1 reads a line such as "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".
func parseProxy1(b []byte) (*proxyHeader, int, error) {
	end := bytes.IndexByte(b[:min(len(b), longestProxy1)], '\n')
	if end < 0 {
		if len(b) < longestProxy1 {
			return nil, 0, errProxyShort
		}
		return nil, 0, fmt.Errorf("the line does not end within %d bytes", longestProxy1)
	}
	line, ok := strings.CutSuffix(string(b[:end]), "\r")
	if !ok {
		return nil, 0, errors.New("the line does not end with CR and LF")
	}
	fields := strings.Split(line, " ")
	if len(fields) < 2 {
		return nil, 0, errors.New("the line has no protocol")
	}
	h := &proxyHeader{}
	switch protocol := fields[1]; {
	case protocol == "UNKNOWN": // whatever follows
		return h, end + 1, nil
	case protocol != "TCP4" && protocol != "TCP6":
		return nil, 0, fmt.Errorf("unknown protocol %q", protocol)
	case len(fields) != 6:
		return nil, 0, fmt.Errorf("the line has %d fields, not 6", len(fields))
	}
	source, err := parseProxyAddr(fields[1], fields[2], fields[4])
	if err != nil {
		return nil, 0, err
	}
	target, err := parseProxyAddr(fields[1], fields[3], fields[5])
	if err != nil {
		return nil, 0, err
	}
	h.source, h.target = source, target
	return h, end + 1, nil
}

func parseProxyAddr(protocol, address, port string) (net.Addr, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.Is4() != (protocol == "TCP4") {
		return nil, fmt.Errorf("%q is no address of %s", address, protocol)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port != strconv.FormatUint(n, 10) { // no sign, no zeros in front
		return nil, fmt.Errorf("%q is no port", port)
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(n))), nil
}

// Address families and transports of version 2, in one byte.
const (
	proxyUnspecified = 0x00
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	proxyUnix        = 0x31
)

// parseProxy2 reads a header of version 2: the signature, a byte of version and
// command, one of family and transport, two of the length of what follows.
func parseProxy2(b []byte) (*proxyHeader, int, error) {
	const fixed = len(proxySignature2) + 4
	if len(b) < fixed {
		return nil, 0, errProxyShort
	}
	command, family := b[fixed-4], b[fixed-3]
	length := int(binary.BigEndian.Uint16(b[fixed-2:]))
	switch {
	case command>>4 != 2 || command&0xF > 1:
		return nil, 0, fmt.Errorf("unknown version and command 0x%02X", command)
	case length > longestProxy2:
		return nil, 0, fmt.Errorf("%d bytes are announced; %d at most are believed", length, longestProxy2)
	case len(b) < fixed+length:
		return nil, 0, errProxyShort
	}
	whole := b[:fixed+length]
	body := whole[fixed:]
	h := &proxyHeader{}
	if command&0xF == 0 { // LOCAL: the proxy's own connection, such as a health check
		return h, len(whole), nil
	}
	rest, err := h.addresses(family, body)
	if err != nil {
		return nil, 0, err
	}
	if err := h.fields(rest, whole); err != nil {
		return nil, 0, err
	}
	return h, len(whole), nil
}

// addresses reads both addresses, and returns what is behind them.
func (h *proxyHeader) addresses(family byte, b []byte) (rest []byte, err error) {
	size := map[byte]int{proxyUnspecified: 0, proxyTCP4: 4, proxyTCP6: 16, proxyUnix: 108}
	n, known := size[family]
	ports := 0
	if family == proxyTCP4 || family == proxyTCP6 {
		ports = 2
	}
	switch {
	case !known:
		return nil, fmt.Errorf("unknown family and transport 0x%02X", family)
	case len(b) < 2*(n+ports):
		return nil, fmt.Errorf("%d bytes are too few for the addresses", len(b))
	}
	source, target, after := b[:n], b[n:2*n], b[2*n:]
	switch {
	case ports > 0:
		h.source, h.target = tcpAddr(source, after), tcpAddr(target, after[ports:])
	case family == proxyUnix:
		h.source, h.target = unixAddr(source), unixAddr(target)
	}
	return after[2*ports:], nil
}

func tcpAddr(ip, port []byte) net.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port)))
}

func unixAddr(path []byte) net.Addr {
	name, _, _ := bytes.Cut(path, []byte{0})
	return &net.UnixAddr{Name: string(name), Net: "unix"}
}

// Types of the fields behind the addresses, and inside the one of TLS.
const (
	proxyALPN      = 0x01
	proxyAuthority = 0x02
	proxyChecksum  = 0x03
	proxySSL       = 0x20

	proxySSLVersion = 0x21
	proxySSLName    = 0x22
	proxySSLCipher  = 0x23
)

// fields reads what follows the addresses in a header, which is whole.
func (h *proxyHeader) fields(b, whole []byte) error {
	return eachField(b, func(kind byte, value []byte) error {
		switch kind {
		case proxyALPN:
			h.alpn = string(value)
		case proxyAuthority:
			h.authority = string(value)
		case proxyChecksum:
			return checkProxy(value, whole)
		case proxySSL:
			return h.tls.read(value)
		}
		return nil
	})
}

// eachField calls f for each type, length and value in b.
func eachField(b []byte, f func(kind byte, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 3 {
			return errors.New("a field is cut off")
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < 3+n {
			return fmt.Errorf("field 0x%02X is longer than the header", b[0])
		}
		if err := f(b[0], b[3:3+n]); err != nil {
			return err
		}
		b = b[3+n:]
	}
	return nil
}

// checkProxy compares the CRC32C of a header, in which its own place counts as zero.
func checkProxy(value, whole []byte) error {
	if len(value) != 4 {
		return errors.New("the checksum does not have 4 bytes")
	}
	at := cap(whole) - cap(value) // both are of one array
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, whole[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	sum = crc32.Update(sum, table, whole[at+4:])
	if sum != binary.BigEndian.Uint32(value) {
		return errors.New("the checksum is wrong")
	}
	return nil
}

// read reads the field of TLS: a byte of flags, four that are zero if the
// certificate of the client is verified, and fields of its own.
func (t *proxyTLS) read(b []byte) error {
	const speaksTLS, hasCertificate = 1, 2 | 4 // on this connection, or in its TLS session
	if len(b) < 5 {
		return errors.New("the field of TLS is too short")
	}
	flags, failed := b[0], binary.BigEndian.Uint32(b[1:])
	if flags&speaksTLS == 0 {
		return nil
	}
	*t = proxyTLS{version: "unknown", verified: flags&hasCertificate != 0 && failed == 0}
	return eachField(b[5:], func(kind byte, value []byte) error {
		switch kind {
		case proxySSLVersion:
			t.version = string(value)
		case proxySSLName:
			t.commonName = string(value)
		case proxySSLCipher:
			t.cipher = string(value)
		}
		return nil
	})
}
