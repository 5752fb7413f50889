package petrel

import (
	"github.com/petrelmq/petrel/packets"
)

// puback ends a QoS 1 message that was sent to the client (MQTT 5.0, section 4.3.2).
func (c *Client) puback(bt *batch, flags byte, body []byte) error {
	p := &bt.in.ack
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flightLocked(c, p.PacketID)
	if f == nil {
		return nil
	}
	if f.qos != AtLeastOnce {
		return &packets.Error{Code: packets.ProtocolError, Detail: "PUBACK for a QoS 2 message"}
	}
	if p.Reason.IsError() {
		bt.dropMessage(s.id, f.msg, f.qos, DropRefusedByClient)
	}
	s.finishLocked(bt, f)
	s.pumpLocked(bt)
	return nil
}

// pubrec takes the first half of a QoS 2 message off the broker (MQTT 5.0,
// section 4.3.3): from now on only its identifier is kept.
func (c *Client) pubrec(bt *batch, flags byte, body []byte) error {
	p := &bt.in.rec
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flightLocked(c, p.PacketID)
	rel := &bt.in.rel
	*rel = packets.Pubrel{PacketID: p.PacketID}
	switch {
	case f == nil:
		if p.Reason.IsError() || s.flights.get(p.PacketID) != nil { // it is sent again, here or to a successor, and answered then
			return nil
		}
		rel.Reason = packets.PacketIdentifierNotFound
	case f.qos != ExactlyOnce:
		return &packets.Error{Code: packets.ProtocolError, Detail: "PUBREC for a QoS 1 message"}
	case p.Reason.IsError():
		if f.msg != nil {
			bt.dropMessage(s.id, f.msg, f.qos, DropRefusedByClient)
		}
		s.finishLocked(bt, f)
		s.pumpLocked(bt)
		return nil
	case f.state == awaitAck:
		s.releaseFlightLocked(bt, f)
	}
	bt.reply(c, rel)
	return nil
}

// pubcomp ends a QoS 2 message that was sent to the client.
func (c *Client) pubcomp(bt *batch, flags byte, body []byte) error {
	p := &bt.in.comp
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flightLocked(c, p.PacketID)
	if f == nil {
		return nil
	}
	if f.qos != ExactlyOnce || f.state != awaitComp {
		return &packets.Error{Code: packets.ProtocolError, Detail: "PUBCOMP for a message that was not released"}
	}
	s.finishLocked(bt, f)
	s.pumpLocked(bt)
	return nil
}

// pubrel releases the identifier of a QoS 2 message of the client.
func (c *Client) pubrel(bt *batch, flags byte, body []byte) error {
	p := &bt.in.rel
	if err := p.Decode(flags, body, c.version); err != nil {
		return err
	}
	if err := c.checkProperties(p.UserProperties.Len()); err != nil {
		return err
	}
	code := packets.Success
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != c {
		return nil
	}
	counted, known := s.received[p.PacketID]
	if !known {
		code = packets.PacketIdentifierNotFound
	}
	if counted {
		c.opened--
	}
	delete(s.received, p.PacketID)
	if known && s.durable {
		s.broker.journal.forgetReceived(bt, s, p.PacketID)
	}
	if known && len(s.received) == 0 {
		s.received = nil
	}
	comp := &bt.in.comp
	*comp = packets.Pubcomp{PacketID: p.PacketID, Reason: code}
	bt.reply(c, comp)
	return nil
}

// flightLocked returns the message that the client acknowledges. It returns nil
// for an unknown identifier, and to a connection that no longer owns the session.
func (s *session) flightLocked(c *Client, id uint16) *flight {
	if s.client != c {
		return nil
	}
	if f := s.flights.get(id); f != nil && !f.unsent {
		return f
	}
	return nil
}
