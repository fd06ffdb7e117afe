package vault_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/vault"
)

func open(t *testing.T, path string) *vault.Vault {
	t.Helper()
	v, err := vault.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSealedIsReadAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, plain := range [][]byte{nil, {0}, []byte("unique key"), bytes.Repeat([]byte{0xff, 0}, 5000)} {
		sealed, err := open(t, path).Seal("unique_key", plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(plain) > 4 && bytes.Contains(sealed, plain) {
			t.Error("the secret is in what is sealed")
		}
		got, err := open(t, path).Unseal("unique_key", sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q came back as %q, %v", plain, got, err)
		}
	}
}

func TestSealingTwiceGivesNothingAway(t *testing.T) {
	v := open(t, filepath.Join(t.TempDir(), "key"))
	a, errA := v.Seal("unique_key", []byte("same"))
	b, errB := v.Seal("unique_key", []byte("same"))
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		t.Errorf("%v, %v; equal: %v", errA, errB, bytes.Equal(a, b))
	}
}

func TestUnsealRefuses(t *testing.T) {
	dir := t.TempDir()
	v, other := open(t, filepath.Join(dir, "key")), open(t, filepath.Join(dir, "another"))
	sealed, err := v.Seal("unique_key", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(name string, v *vault.Vault, purpose string, sealed []byte) {
		t.Helper()
		if plain, err := v.Unseal(purpose, sealed); err == nil || plain != nil {
			t.Errorf("%s: %q, %v", name, plain, err)
		} else if strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), "secrets") {
			t.Errorf("%s: the error tells: %v", name, err)
		}
	}
	refuses("another purpose", v, "card", sealed)
	refuses("another key", other, "unique_key", sealed)
	refuses("nothing", v, "unique_key", nil)
	refuses("another format", v, "unique_key", append([]byte{2}, sealed[1:]...))
	for n := range sealed {
		refuses("cut short", v, "unique_key", sealed[:n])
		bent := bytes.Clone(sealed)
		bent[n] ^= 1
		refuses("a bit is turned", v, "unique_key", bent)
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if _, err := vault.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("who reads makes %v, %v", files, err)
	}
	open(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("it leaves %v, %v", files, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(strings.TrimSpace(string(text))) != 64 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, bad := range []string{"", "x", string(text[:62]), string(text[:64]) + "00", string(text[:64]) + "0", strings.Repeat("z", 64)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a key of %d characters: %v", len(bad), err)
		}
		if now, _ := os.ReadFile(path); string(now) != bad {
			t.Error("what was there was written over: what it sealed is lost")
		}
	}
	if _, err := vault.Open(filepath.Join(dir, "none", "key")); err == nil {
		t.Error("a key in a directory that is not there")
	}
	if _, err := vault.Open(dir); err == nil {
		t.Error("a directory is a key")
	}
}

func TestManyStartAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	vaults := make([]*vault.Vault, 16)
	var done sync.WaitGroup
	for i := range vaults {
		done.Go(func() {
			var err error
			if vaults[i], err = vault.Open(path); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
	sealed, err := vaults[0].Seal("x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vaults {
		if plain, err := v.Unseal("x", sealed); err != nil || string(plain) != "secret" {
			t.Errorf("vault %d has another key: %v", i, err)
		}
	}
}
