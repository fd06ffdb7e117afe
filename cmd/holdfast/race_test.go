//go:build race

package main

// Under the race detector to shed a payment costs half as much as to take it, so there is no overload of five
// times: TestOverload is a smaller one then and says nothing of time. make test runs it without, too.
const underRace = true
