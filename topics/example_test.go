package topics_test

import (
	"fmt"

	"github.com/petrelmq/petrel/topics"
)

// A tree finds the subscriptions of a topic.
func ExampleTree() {
	tree := topics.NewTree[string]()
	for client, filter := range map[string]string{"anna": "sport/+/score", "otto": "sport/#", "ida": "news"} {
		tree.Add(filter, &topics.Entry[string]{Value: client})
	}
	var found topics.Matches[string]
	tree.Match([]byte("sport/tennis/score"), &found)
	fmt.Println(len(found.Entries), "of", tree.Len())
	// Output: 2 of 3
}

// Retained walks the topics that match a filter, level by level.
func ExampleRetained() {
	index := topics.NewRetained[int]()
	index.Set("doors/front", 1)
	index.Set("doors/back", 2)
	index.Set("windows", 3)
	for topic, value := range index.All("doors/+") {
		fmt.Println(topic, value)
	}
	// Output:
	// doors/back 2
	// doors/front 1
}

func ExampleMatch() {
	fmt.Println(topics.Match("a/#", "a"), topics.Match("a/+", "a"), topics.Match("#", "$SYS/x"))
	// Output: true false false
}

func ExampleCheckFilter() {
	fmt.Println(topics.CheckFilter("a/+/#", 0))
	fmt.Println(topics.CheckFilter("a+/b", 0))
	// Output:
	// <nil>
	// topics: invalid filter: '+' not alone in its level
}
