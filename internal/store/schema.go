package store

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
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

// Schema is the version of a store's schema and the one that this program makes of it when it opens it. 0 is a store
// that is not there yet.
func Schema(ctx context.Context, cfg Config) (at, known int, err error) {
	version := ""
	switch {
	case cfg.DB != "":
		version, err = postgresVersion(ctx, cfg.DB)
	default:
		path := filepath.Join(cfg.Dir, File)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return 0, schemaVersion, nil
		}
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
		if err != nil {
			return 0, schemaVersion, explain(err, path)
		}
		defer conn.Close()
		version, err = meta(sqliteConn{conn}, "schema")
		if sqlite.ErrCode(err) == sqlite.ResultError { // no such table: who made the file died before it made more
			return 0, schemaVersion, nil
		}
		if err != nil {
			return 0, schemaVersion, explain(err, path)
		}
	}
	if err != nil || version == "" {
		return 0, schemaVersion, err
	}
	if at, err = strconv.Atoi(version); err != nil {
		err = fmt.Errorf("this is not a store of holdfast: its schema is called %q", version)
	}
	return at, schemaVersion, err
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

// meta is a text of the table meta; "": there is none.
func meta(q querier, name string) (found string, err error) {
	err = q.query(`SELECT value FROM meta WHERE name = ?1`, []value{str(name)}, func(r record) error {
		found = r.text(0)
		return nil
	})
	return found, err
}

// newNumberKey is the key that permutes payment numbers, in hexadecimal digits.
func newNumberKey() string {
	key := make([]byte, 16)
	rand.Read(key)
	return hex.EncodeToString(key)
}
