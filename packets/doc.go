// Package packets encodes and decodes the control packets of MQTT 5.0, 3.1.1
// and 3.1.
//
// It holds pure functions of bytes: no input or output, no broker state and no
// clock. There is one type per control packet. AppendTo writes a packet behind
// whatever a buffer already holds; Decode parses the bytes behind a fixed
// header that [DecodeHeader] has split off:
//
//	h, n, err := packets.DecodeHeader(buf)
//	switch {
//	case err != nil:
//		return err // malformed: close the connection
//	case n == 0 || len(buf) < n+h.Remaining:
//		return nil // read more bytes first
//	}
//	p := packets.New(h.Type)
//	err = p.Decode(h.Flags, buf[n:n+h.Remaining], version)
//
// # Ownership
//
// Decode copies nothing: the byte slices of a decoded packet alias the body it
// was given, with their capacity cut to their length, and are valid as long as
// the body is left alone and the packet is not decoded again. Clone what must
// live longer. A field that is empty or absent is nil. Packet values can be
// used again, which is how neither direction allocates.
//
// Whatever may repeat without bound (user properties, filters, subscriptions)
// stays in wire form and is walked, so no packet makes the decoder reserve more
// memory than the packet itself takes.
//
// # Errors
//
// Every error carries a [ReasonCode]; [ReasonOf] finds it. Decoders name the
// field and its offset in the body. After an error the fields of a packet are
// undefined, except [Connect].Version.
package packets
