//go:build linux

package load

// publisher is the sending side of a client.
type publisher struct {
	conn      *conn
	templates []template
	plan      *Publishing

	sent      uint64
	acked     uint64
	delivered uint64 // copies, over all receivers
	forgiven  uint64 // copies that are not waited for any more

	times []int64 // when the messages were sent that are not acknowledged, a ring; nil if nobody asks
}

func newPublisher(index uint32, plan *Publishing) *publisher {
	p := &publisher{plan: plan}
	if plan.TimeAcks {
		p.times = make([]int64, plan.Window)
	}
	for _, topic := range plan.Topics {
		p.templates = append(p.templates, newTemplate(topic, plan, index))
	}
	return p
}

// sentAt is when the message was sent that is acknowledged next.
func (p *publisher) sentAt() int64 { return p.times[p.acked%uint64(len(p.times))] }

// credit is how many messages may be sent now.
func (p *publisher) credit() int {
	open := 0
	if p.plan.QoS > 0 {
		open = int(p.sent - p.acked)
	}
	if p.plan.Fan > 0 {
		open = max(open, int(p.sent)-int((p.delivered+p.forgiven)/uint64(p.plan.Fan)))
	}
	credit := p.plan.Window - open
	if p.plan.Limit > 0 {
		credit = min(credit, p.plan.Limit-int(p.sent))
	}
	return max(credit, 0)
}

// missing is how many copies are not delivered yet.
func (p *publisher) missing() uint64 {
	expected := p.sent * uint64(p.plan.Fan)
	if expected < p.delivered {
		return 0
	}
	return expected - p.delivered
}

// settled reports that the broker has acknowledged all, and that all is delivered.
func (p *publisher) settled() bool {
	return (p.plan.QoS == 0 || p.acked >= p.sent) && p.missing() == 0
}

// next returns the template of the next message.
func (p *publisher) next() *template {
	return &p.templates[p.sent%uint64(len(p.templates))]
}
