package petrel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
)

// pageRange says what to read of the messages that wait for a session.
type pageRange struct {
	serial   uint64 // of the session
	from, to uint64 // places, both included
	messages int    // at most
	bytes    int    // at most, but for the first
	behind   bool   // all that is journaled has to be in the store before
}

// page is some messages that wait for a session, in their order.
type page struct {
	records []pageRecord
	next    uint64 // the place to go on with
	to      uint64 // the end of the range
	end     bool   // nothing of the range is left
	granted int64  // bytes for it that memory counts already
}

// pageRecord is a delivery that was read, or why it cannot be understood.
type pageRecord struct {
	deliveryRecord
	key, value []byte // with err, and with a message that is a record of its own
	err        error
}

var (
	errEnough  = errors.New("enough") // ends a walk through the store
	errMissing = errors.New("its message is missing")
)

// load is that of the store. A store that panics has failed.
func (j *journal) load(ctx context.Context, from, to []byte, each func(key, value []byte) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			j.broker.log.panicked("the store", r)
			err = errHookPanic
		}
	}()
	return j.store.Load(ctx, from, to, each)
}

// readPage reads the messages that a session has in a range. If there seem to be
// none, it waits for the commits under way, which may have them. No lock may be held.
func (j *journal) readPage(ctx context.Context, r pageRange) (page, error) {
	p, err := page{}, error(nil)
	if !r.behind {
		p, err = j.readCommitted(ctx, r)
		p.end = false // more may be on its way to the store
	}
	if err == nil && len(p.records) == 0 {
		if err = j.waitForAll(ctx); err == nil {
			p, err = j.readCommitted(ctx, r)
		}
	}
	if err != nil {
		return page{}, err
	}
	var wanted []*message
	for i := range p.records {
		if r := &p.records[i]; r.err == nil && r.place.byRef {
			wanted = append(wanted, r.msg)
		}
	}
	if err := j.readMessages(ctx, wanted); err != nil {
		return page{}, err
	}
	for i := range p.records {
		if r := &p.records[i]; r.err == nil && r.msg.topic == "" {
			r.err = errMissing
		}
	}
	return p, nil
}

// readCommitted is readPage for what the store has now, without the messages that are
// records of their own.
func (j *journal) readCommitted(ctx context.Context, r pageRange) (page, error) {
	p := page{next: r.from, to: r.to}
	from := appendPlaceOf(nil, kindDelivery, r.serial, r.from)
	to := append(appendPlaceOf(nil, kindDelivery, r.serial, r.to), 0)
	size := 0
	err := j.load(ctx, from, to, func(key, value []byte) error {
		if len(key) != keyPrefix+16 {
			return nil
		}
		if len(p.records) >= r.messages {
			return errEnough
		}
		record := pageRecord{}
		body, err := unseal(key, value)
		if err == nil {
			err = record.read(&fields{b: body}, j.broker.alarms)
		}
		if err != nil {
			record = pageRecord{err: err}
		}
		if err != nil || record.place.byRef {
			record.key, record.value = clone(key), clone(value)
		}
		if size += record.size; len(p.records) > 0 && size > r.bytes {
			return errEnough
		}
		record.place.n = binary.BigEndian.Uint64(key[len(key)-8:])
		p.records = append(p.records, record)
		p.next = record.place.n + 1
		return nil
	})
	if err == errEnough {
		return p, nil
	}
	p.end = true
	return p, err
}

// readMessages fills in messages of which only the number is known. One that is not
// there, or cannot be understood, stays without a topic.
func (j *journal) readMessages(ctx context.Context, wanted []*message) error {
	const near = 16 // records that are passed over rather than looked up anew
	slices.SortFunc(wanted, func(a, b *message) int { return cmp.Compare(a.number, b.number) })
	for len(wanted) > 0 {
		passed := 0
		from := appendKeyOf(nil, kindMessage, wanted[0].number)
		to := appendKeyOf(nil, kindMessage, wanted[len(wanted)-1].number+1)
		err := j.load(ctx, from, to, func(key, value []byte) error {
			n, _, err := numberIn(key)
			if err != nil {
				return nil
			}
			for len(wanted) > 0 && wanted[0].number < n {
				wanted = wanted[1:]
			}
			if passed++; len(wanted) == 0 || wanted[0].number > n && passed > near {
				return errEnough
			}
			for len(wanted) > 0 && wanted[0].number == n {
				j.readMessage(wanted[0], key, value)
				wanted, passed = wanted[1:], 0
			}
			return nil
		})
		if err == nil {
			return nil // what is left is not there
		}
		if err != errEnough {
			return err
		}
	}
	return nil
}

func (j *journal) readMessage(m *message, key, value []byte) {
	body, err := unseal(key, value)
	if err != nil {
		return
	}
	f := fields{b: body}
	f.messageInto(m, j.broker.alarms)
	if f.end() != nil {
		m.topic = ""
	}
}
