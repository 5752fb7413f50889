// Package hostile holds tests: what a broker has to bear from clients that mean
// harm, and whole sessions of clients that do anything, against a model.
//
//   - Each attack is a row of a table: what it does, and how much memory the
//     options allow it. While it lasts a well-behaved pair goes on to exchange
//     messages, and nothing is left of it afterwards.
//   - FuzzSessions makes a program of operations of several clients from bytes,
//     runs it in fake time, and compares what they are sent with what they have to
//     be sent.
package hostile
