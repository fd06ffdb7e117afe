// Package world plays the whole gateway in one process from one number, and nothing else: it is all
// tests.
//
// A seed decides everything: what shops and payers do, what goes wrong on the way to the processing
// centres and at merchants' servers, how time goes on, and at which point the process dies. The same
// seed plays the same world again, line for line, so a seed that failed once is all that is needed to
// look at the failure.
//
// What is real: the store with its files or its database, the gateway, the notifier, all connectors, and the
// simulator with its own books. What is not: the network to the centres is a function call, and there is
// one clock, which only the world moves.
//
// # How a process dies
//
// At a named point of the gateway or of a commit the store is copied as it lies on the disk. From then
// on the process is dead: whatever it still does, it reaches no centre and no merchant, and no answer of
// it is believed. The next process starts on the copy.
//
// On PostgreSQL the server outlives the process. At the point the process loses all its connections, and the
// server rolls back what was not committed; a COMMIT that was under way never arrives, or it is done and nobody
// hears of it, as the seed says. What the dead process still does is led into another database. Now and then the
// connection breaks in one of these two ways under a process that lives, which then has to look what became of
// its COMMIT.
//
// Every other world there has two gateways on one database. Each thing that happens happens at one of them, also in the middle
// of what the other one is doing; each remembers payments that the other has changed since, and is told by payers, shops and
// centres of what the other one began. One that has died may stay away for long, while the other keeps the deadlines and
// takes up its questions.
//
// There too a seed plays the same world again, line for line: whether a COMMIT is done is not left to a race with
// the break. What differs from run to run shows in no line: how often a lost connection is tried again, and how
// long the server takes to notice that one is gone. The races themselves, and the server's own death, are for the
// kills and the failover in cmd/holdfast.
//
// # What else happens
//
// A backup is taken, and later the store is lost with all who serve from it and the backup brought back (restore_test.go): by holdfast
// restore, by a copy of the directory, or as a database is recovered, the last two marked by holdfast recovered. The centres and merchants
// have gone on meanwhile. A person looks up in a centre's books what became of an operation in doubt and says so, also too early
// (person_test.go); what waits for a person at rest he ends. An operator has a shop told once more how a payment stands, whatever
// became of telling it (endpoint_test.go), and changes what a shop pays, how long its holds last and where its
// payments go (settings_test.go). And the gateway's clock is set, forward or back, while no time passes for anybody else (clock_test.go).
//
// # How things happen at once
//
// Nothing does, or a seed could not be played twice. Instead other things happen in the middle of a call
// to a centre: before it arrives, or after it has done its work and before the answer is read. Real
// concurrency is what the storms in package gateway are for.
//
// # What is looked at
//
// After every step the audit and the rules in rules_test.go; at rest the books of the centres, operation by
// operation (books_test.go). mutants_test.go shows that it bites: it takes one rule out of the gateway's
// code at a time, and each time the world must fail.
//
// Order to read: play_test.go (one seed), world_test.go (what a world is made of), sqlite_test.go and
// postgres_test.go (where it keeps its data), wire_test.go (the way
// to the centres), actors_test.go, endpoint_test.go (merchants' servers), settings_test.go, person_test.go, clock_test.go, restore_test.go,
// rules_test.go, books_test.go, run_test.go (many seeds), mutants_test.go.
package world
