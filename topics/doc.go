// Package topics holds what an MQTT broker knows about topics: the rules for
// topic names and topic filters, the tree that finds the subscriptions of a
// topic, shared subscription groups, and the index of retained messages.
//
// It knows no packets and no clients. The values that stand in the tree and in
// the index are the caller's, of any type.
//
// # Names and filters
//
// [CheckName] and [CheckFilter] apply the rules of MQTT 5 sections 4.7 and
// 4.8.2, which are the same in version 3.1.1 but for shared subscriptions.
// Text arrives as string or as bytes; none of these functions copies it.
// UTF-8 is checked where text is decoded, not here.
//
// # Tree
//
// A [Tree] is made for many readers: [Tree.Match] takes no lock, waits for
// nobody, and allocates nothing once its [Matches] has grown. Changes are
// serialised by one lock that is held for moments.
//
//	tree := topics.NewTree[*Session]()
//	e := &topics.Entry[*Session]{Value: s}
//	tree.Add("sport/+/score", e)
//
//	var m topics.Matches[*Session]
//	tree.Match([]byte("sport/tennis/score"), &m)
//	for _, e := range m.Entries {
//		deliver(e.Value)
//	}
//	m.Reset()
//
// An entry that stays in the tree for the whole of a Match is found exactly
// once, whatever else changes meanwhile. [Tree.Replace] exchanges an entry for
// another so that every Match finds one of the two.
//
// # Retained
//
// [Retained] keeps values in the order of their topics. A [Cursor] walks the
// topics that match a filter in small steps while the index changes.
package topics
