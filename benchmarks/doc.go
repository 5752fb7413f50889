// Benchmarks runs petrel beside other brokers and prints what each costs, as
// Markdown: see README.md. It needs Linux, and mosquitto if that is to be measured.
package main
