package packets

// MaxRemaining is the largest Remaining Length, and the largest value of any
// Variable Byte Integer.
const MaxRemaining = 268435455

// VarintLen reports how many bytes AppendVarint uses for n: 1 to 4, or 0 if n
// is above [MaxRemaining] and has no encoding.
func VarintLen(n uint32) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	case n <= MaxRemaining:
		return 4
	}
	return 0
}

// AppendVarint appends n as a Variable Byte Integer (MQTT 5.0, section 1.5.5)
// in its shortest form. Nothing is appended if n is above [MaxRemaining].
func AppendVarint(dst []byte, n uint32) []byte {
	if n > MaxRemaining {
		return dst
	}
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// DecodeVarint reads the Variable Byte Integer at the start of b. n is its
// length in bytes, 0 while b does not hold all of it yet. A fourth byte that
// announces a fifth and an encoding longer than needed are MalformedPacket.
func DecodeVarint(b []byte) (value uint32, n int, err error) {
	for i := 0; i < 4 && i < len(b); i++ {
		c := b[i]
		value |= uint32(c&0x7F) << (7 * i)
		switch {
		case c >= 0x80:
			continue
		case c == 0 && i > 0:
			return 0, 0, &Error{Code: MalformedPacket, Detail: "variable byte integer is longer than needed"}
		}
		return value, i + 1, nil
	}
	if len(b) >= 4 {
		return 0, 0, &Error{Code: MalformedPacket, Detail: "variable byte integer has more than 4 bytes"}
	}
	return 0, 0, nil
}
