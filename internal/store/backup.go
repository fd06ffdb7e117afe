package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// A backup is a copy of the whole store as it was at one moment, in one file. Restored, it carries a mark
// that says so: the store is then behind the world, and package gateway reconciles it before it sends anything.

// The names of the marks in the table meta. Times are microseconds since 1970.
const (
	metaTaken      = "backup_taken_at"
	metaRestored   = "restored_at"
	metaFrom       = "restored_from"
	metaReconciled = "reconciled"
	metaContracts  = "contracts" // of any store that was served; names, with spaces between them
)

// Restored says that a store began as a backup.
type Restored struct {
	At         time.Time // when it was restored; zero: it was not
	Taken      time.Time // when the backup was taken
	Reconciled bool      // nothing of the backup is behind any more (see payment.Payment.Behind)
}

// Restored tells whether the store began as a backup, as it was when it was opened.
func (s *Store) Restored() Restored { return s.restored }

// SetReconciled notes that nothing of the restored backup is behind any more.
func (s *Store) SetReconciled(ctx context.Context) error {
	return s.do(ctx, &job{exec: func(w writing, _ time.Time) error {
		_, err := w.exec(`UPDATE meta SET value = '1' WHERE name = ?1`, []value{str(metaReconciled)}) // restore made the row
		return err
	}})
}

// Contracts are the names of the contracts that payments could go to since the last start: the last that SetContracts was given.
func (s *Store) Contracts(ctx context.Context) (names []string, err error) {
	text, err := s.meta(ctx, metaContracts)
	return strings.Fields(text), err
}

// SetContracts notes the names of the contracts that payments may go to from now on; a name has no spaces. A backup keeps them.
func (s *Store) SetContracts(ctx context.Context, names []string) error {
	return s.do(ctx, &job{exec: func(w writing, _ time.Time) error { return putMeta(w, metaContracts, strings.Join(names, " ")) }})
}

func restoredMark(e engine) (r Restored, err error) {
	err = e.read(context.Background(), func(q querier) error {
		return q.query(`SELECT name, value FROM meta WHERE name IN (?1, ?2, ?3)`, []value{str(metaRestored), str(metaFrom), str(metaReconciled)}, func(row record) (err error) {
			switch name, value := row.text(0), row.text(1); name {
			case metaRestored:
				r.At, err = parseMetaTime(name, value)
			case metaFrom:
				r.Taken, err = parseMetaTime(name, value)
			case metaReconciled:
				r.Reconciled = value != ""
			}
			return err
		})
	})
	return r, err
}

func putMeta(w writing, name, to string) error {
	_, err := w.exec(`INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, []value{str(name), str(to)})
	return err
}

func parseMetaTime(name, text string) (time.Time, error) {
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the mark %s is %q", name, text)
	}
	return timeAt(us), nil
}

func metaTime(at time.Time) string { return strconv.FormatInt(micros(at), 10) }

// backupPages is how many pages are copied between two looks at ctx.
const backupPages = 256

// Backup copies the whole store, as it is at this moment, into a new file that only its owner may read. It
// may run beside a serving gateway, whose callers do not wait for it. The file appears under its name when it is
// complete, checked and on the disk; what was there is not overwritten. progress, which may be nil, is called
// now and then with the number of pages copied and the number there are.
func (s *Store) Backup(ctx context.Context, file string, progress func(done, of int)) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already, and is not overwritten: name a new file", file)
	}
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, ".backup-*") // 0600
	if err != nil {
		return fmt.Errorf("the backup cannot be made: %w", err)
	}
	name := temp.Name()
	defer func() {
		err = errors.Join(err, remove(name), remove(name+"-journal"), remove(name+"-wal"), remove(name+"-shm"))
	}()
	if err := temp.Close(); err != nil {
		return err
	}
	if err := s.backupTo(ctx, name, progress); err != nil {
		return fmt.Errorf("the backup was not made: %w", err)
	}
	if err := syncFile(name); err != nil {
		return fmt.Errorf("the backup is not safely on the disk: %w", err)
	}
	// A link, unlike a rename, never replaces what somebody else has put there meanwhile.
	if err := os.Link(name, file); err != nil {
		return fmt.Errorf("the backup cannot be given its name: %w", err)
	}
	return syncDir(dir)
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) backupTo(ctx context.Context, name string, progress func(done, of int)) (err error) {
	to, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	e, ok := s.engine.(*sqliteEngine)
	if !ok {
		return errors.New("only a store in a file can be copied: use the database's own backup")
	}
	taken := s.Now()
	if err := e.borrow(ctx, func(from *sqlite.Conn) error { return s.snapshotOf(ctx, from, to, progress) }); err != nil {
		return err
	}
	// A backup is one file, without a log beside it.
	if err := set(to, "journal_mode = DELETE", "synchronous = FULL"); err != nil {
		return err
	}
	if err := setMeta(to, metaTaken, metaTime(taken)); err != nil {
		return err
	}
	return whole(to)
}

// snapshotOf copies one snapshot: whatever is committed meanwhile is for the next backup.
func (s *Store) snapshotOf(ctx context.Context, from, to *sqlite.Conn, progress func(done, of int)) (err error) {
	if err := query(from, "BEGIN", nil, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endSnapshot(from)) }()
	if _, err := meta(sqliteConn{from}, "schema"); err != nil { // the snapshot begins with the first read
		return err
	}
	return copyPages(ctx, to, from, progress)
}

func copyPages(ctx context.Context, to, from *sqlite.Conn, progress func(done, of int)) (err error) {
	b, err := sqlite.NewBackup(to, "main", from, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = b.Step(backupPages); err != nil {
			return err
		}
		if progress != nil {
			progress(b.PageCount()-b.Remaining(), b.PageCount())
		}
	}
	return nil
}

// whole has SQLite look at every page.
func whole(conn *sqlite.Conn) error {
	var wrong []string
	err := query(conn, "PRAGMA integrity_check(10)", nil, func(row record) error {
		if text := row.text(0); text != "ok" {
			wrong = append(wrong, text)
		}
		return nil
	})
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("it is damaged: %s", strings.Join(wrong, "; "))
	}
	return err
}

// RestoreInto makes a store in a directory, which must exist, of a backup, and marks it as restored at now. What is
// wrong with the file is said, and nothing is left behind that could be served.
func RestoreInto(dir, file string, now time.Time) (r Restored, err error) {
	path := filepath.Join(dir, File)
	if err := copyFile(path, file); errors.Is(err, os.ErrExist) {
		return r, fmt.Errorf("%s holds a store already", dir)
	} else if err != nil {
		return r, fmt.Errorf("the backup %s cannot be copied: %w", file, err)
	}
	defer func() { // from here on what lies there is ours
		if err != nil {
			err = errors.Join(err, remove(path), remove(path+"-journal"))
		}
	}()
	if r, err = markFile(path, file, now.UTC().Truncate(time.Microsecond)); err != nil {
		return r, err
	}
	return r, errors.Join(syncFile(path), syncDir(dir))
}

func markFile(path, file string, now time.Time) (r Restored, err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return r, explain(err, file)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := set(conn, "synchronous = FULL"); err != nil {
		return r, explain(err, file)
	}
	if err := whole(conn); err != nil {
		return r, fmt.Errorf("%s cannot be restored: %w%s", file, explain(err, file), besideLog(file))
	}
	r = Restored{At: now}
	taken, err := meta(sqliteConn{conn}, metaTaken)
	if err == nil && taken != "" {
		r.Taken, err = parseMetaTime(metaTaken, taken)
	}
	if err != nil {
		return r, explain(err, file)
	}
	version, err := meta(sqliteConn{conn}, "schema")
	if err != nil {
		return r, explain(err, file)
	}
	if _, err := knownSchema(file, version); err != nil {
		return r, err
	}
	if r.Taken.IsZero() {
		return r, fmt.Errorf("%s is no backup: only what holdfast backup made can be restored%s", file, besideLog(file))
	}
	newest := r.Taken
	if err := query(conn, newestChange, nil, laterOf(&newest)); err != nil {
		return r, explain(err, file)
	}
	if err := r.after(newest); err != nil {
		return r, err
	}
	for name, value := range r.marks() {
		err = errors.Join(err, setMeta(conn, name, value))
	}
	return r, errors.Join(err, query(conn, `DELETE FROM meta WHERE name = ?1`, []value{str(metaTaken)}, nil))
}

// MarkRestored notes that the store was brought back to an earlier time by other means than RestoreInto: a database
// recovered to a point in time, or a copy of a directory. What happened since its newest change is missing here, and from
// its next start on it is like a restored backup. Nobody may serve from it meanwhile.
func (s *Store) MarkRestored(ctx context.Context) (r Restored, err error) {
	err = s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		r = Restored{At: now}
		if err := w.query(newestChange, nil, laterOf(&r.Taken)); err != nil {
			return err
		}
		if r.Taken.IsZero() {
			return refused{errors.New("the store holds no payment: there is nothing that centres could know more of")}
		}
		if err := r.after(r.Taken); err != nil {
			return refused{err}
		}
		for name, value := range r.marks() {
			if err := putMeta(w, name, value); err != nil {
				return err
			}
		}
		return nil
	}})
	return r, err
}

// newestChange is the latest time that a payment was made or changed at. Where the clock was set back between the two, that is
// when it was made.
const newestChange = `SELECT max(CASE WHEN t.created_at > p.updated_at THEN t.created_at ELSE p.updated_at END)
	FROM payments p JOIN terms t ON t.payment = p.seq HAVING count(*) > 0`

func laterOf(newest *time.Time) func(record) error {
	return func(row record) error {
		if at := timeAt(row.int(0)); at.After(*newest) {
			*newest = at
		}
		return nil
	}
}

// after refuses a restore that seems to come before something that the store holds: what belongs to the backup is told
// from what comes after by the time of the restore.
func (r Restored) after(newest time.Time) error {
	if newest.Before(r.At) {
		return nil
	}
	return fmt.Errorf("this machine's clock says %s, and the store holds something of %s: set the clock right first", r.At.Format(time.RFC3339), newest.Format(time.RFC3339))
}

// marks are what the table meta says of a store that was restored and is not reconciled yet.
func (r Restored) marks() map[string]string {
	return map[string]string{
		metaRestored: metaTime(r.At), metaFrom: metaTime(r.Taken), metaReconciled: "",
	}
}

// besideLog says what to do with a file that cannot be restored and has a log beside it. A backup has none, and what lies beside
// it does not matter: then it is most likely a store's own file, of which the log holds what was done last.
func besideLog(file string) string {
	if _, err := os.Lstat(file + "-wal"); err != nil {
		return ""
	}
	return fmt.Sprintf("; if %s-wal is its log, it is a store's own file: put the two into a directory, as %s and %s-wal with the key, and run holdfast recovered on that",
		file, File, File)
}

// copyFile makes a new file of another one, whole or not at all.
func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		err = errors.Join(err, remove(to))
	}
	return err
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
