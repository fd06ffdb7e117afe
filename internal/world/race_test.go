//go:build race

package world_test

// Under the race detector SQLite, which is Go here, takes twenty times as long.
const underRace = true
