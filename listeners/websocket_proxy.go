package listeners

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// checkProxies reports a prefix that would never match.
func checkProxies(trusted []netip.Prefix) error {
	for _, p := range trusted {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%v is no prefix of IPv4 or IPv6 addresses", p)
		}
	}
	return nil
}

// forwardedAddr returns where a request comes from, as trusted proxies say. Nil
// means that they say nothing: it comes from peer.
//
// Each proxy adds the address of its own peer at the end. So the list is read
// from there, as long as the one who has added an entry is trusted: what a
// client has put before cannot matter.
func forwardedAddr(peer net.Addr, h http.Header, trusted []netip.Prefix, header string) (net.Addr, error) {
	if from, err := parseAddrPort(peer.String()); err != nil || !isTrusted(trusted, from) {
		return nil, nil
	}
	split := splitAddresses
	if strings.EqualFold(header, "Forwarded") {
		split = splitForwarded
	}
	var list []string
	for _, line := range h.Values(header) {
		nodes, err := split(line)
		if err != nil {
			return nil, fmt.Errorf("header %s of a trusted proxy: %w", header, err)
		}
		list = append(list, nodes...)
	}
	var found net.Addr
	for _, node := range slices.Backward(list) {
		addr, err := parseAddrPort(node)
		if err != nil {
			return nil, fmt.Errorf("header %s of a trusted proxy: %w", header, err)
		}
		found = net.TCPAddrFromAddrPort(addr)
		if !isTrusted(trusted, addr) {
			break
		}
	}
	return found, nil
}

func isTrusted(trusted []netip.Prefix, a netip.AddrPort) bool {
	addr := a.Addr().WithZone("")
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseAddrPort parses an address with or without a port, which is 0 then, and
// IPv6 with or without brackets.
func parseAddrPort(s string) (netip.AddrPort, error) {
	if inside, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inside, "]") {
		s = inside[:len(inside)-1]
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("%q is no address", clip(s))
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// splitAddresses splits a line of X-Forwarded-For.
func splitAddresses(line string) ([]string, error) {
	list := strings.Split(line, ",")
	for i, s := range list {
		list[i] = strings.TrimSpace(s)
	}
	return list, nil
}

var errForwarded = errors.New("not what RFC 7239 describes")

// splitForwarded returns the parameters "for" of a line of Forwarded, one for
// each element. It allows no room for doubt: where a quoted string ends decides
// about who has written what.
func splitForwarded(line string) ([]string, error) {
	var list []string
	node, found := "", false
	for {
		name, rest, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(name, `",;`) {
			return nil, errForwarded
		}
		value, rest, ok := cutValue(rest)
		if !ok {
			return nil, errForwarded
		}
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			if found {
				return nil, errForwarded
			}
			node, found = value, true
		}
		if rest == "" || rest[0] == ',' {
			if !found {
				return nil, errForwarded
			}
			list, node, found = append(list, node), "", false
		}
		if rest == "" {
			return list, nil
		}
		line = rest[1:]
	}
}

// cutValue takes a token or a quoted string from the start of s. What follows
// is empty, or begins with a comma or a semicolon.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ",;")
		if end < 0 {
			end = len(s)
		}
		value = strings.TrimRight(s[:end], " \t")
		return value, s[end:], value != "" && !strings.ContainsAny(value, "\" \t")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			b.WriteByte(s[i])
		case '"':
			rest = strings.TrimLeft(s[i+1:], " \t")
			return b.String(), rest, rest == "" || rest[0] == ',' || rest[0] == ';'
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}
