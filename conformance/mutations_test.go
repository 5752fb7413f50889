package conformance_test

// mutations are all of them.
var mutations = []mutation{{name: "none", broken: "Nothing is."}}
