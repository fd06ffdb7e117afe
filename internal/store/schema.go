package store

import (
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed schema/*.sql
var schemas embed.FS

// schemaVersion is what this program reads and writes: the number of the last file in schema/.
const schemaVersion = 2

// migrations lead from each version, 0 being an empty store, to a later one. They are in SQLite's words.
var migrations = map[int]struct {
	to   int
	file string
}{
	0: {2, "2.sql"},
	1: {2, "2-from-1.sql"},
}

// knownSchema is the version of a store whose meta table says version; "" is 0, an empty store.
func knownSchema(store, version string) (at int, err error) {
	if version != "" {
		if at, err = strconv.Atoi(version); err != nil {
			return 0, fmt.Errorf("%s is not a store of holdfast: its schema is called %q", store, version)
		}
	}
	if at > schemaVersion {
		return 0, fmt.Errorf("%s was written by a newer holdfast (schema %d, this program knows %d): use that version", store, at, schemaVersion)
	}
	return at, nil
}

// migration is the way from one version to a later one.
func migration(from int) (sql string, to int, err error) {
	step, ok := migrations[from]
	if !ok {
		return "", 0, fmt.Errorf("there is no way from schema %d to %d", from, schemaVersion)
	}
	text, err := fs.ReadFile(schemas, "schema/"+step.file)
	return string(text), step.to, err
}

// postgresWords turns a migration into PostgreSQL's words.
var postgresWords = strings.NewReplacer(" INTEGER", " BIGINT", " BLOB", " BYTEA", ") WITHOUT ROWID;", ");")

// newNumberKey is the key that permutes payment numbers, in hexadecimal digits.
func newNumberKey() string {
	key := make([]byte, 16)
	rand.Read(key)
	return hex.EncodeToString(key)
}
