// Package vault keeps secrets that must be read again: it seals them with a key that is not in
// the store, so that a stolen store tells nothing.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	master []byte
}

const keyBytes = 32

// Open reads the key file, and makes one, readable by its owner only, where there is none.
func Open(path string) (*Vault, error) {
	v, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path)
	}
	return v, err
}

// Read reads the key file, 64 hexadecimal digits. Where there is none it is fs.ErrNotExist.
func Read(path string) (*Vault, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the vault's key cannot be read: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%s is not a vault key (64 hexadecimal digits): restore it from your backup; without it the sealed secrets cannot be read", path)
	}
	return &Vault{master: key}, nil
}

func create(path string) (*Vault, error) {
	key := make([]byte, keyBytes)
	rand.Read(key)
	// The whole key appears at once or not at all: of two processes that start together, one makes
	// it and the other reads it, and a crash leaves no half of one.
	temp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, fmt.Errorf("the vault's key cannot be made: %w", err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return nil, fmt.Errorf("the vault's key cannot be written: %w", err)
	}
	switch err := os.Link(temp.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return Read(path)
	case err != nil:
		return nil, fmt.Errorf("the vault's key cannot be written: %w", err)
	}
	// What is sealed may be in a database elsewhere before the machine has written this directory's names by itself.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("the vault's key cannot be written: %w", err)
	}
	return &Vault{master: key}, nil
}

// syncDir makes the names in a directory durable. Windows has no call for it, and NTFS keeps names in a journal of its own.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// format is the first byte of everything sealed, so that another way of sealing can be told apart.
const format = 1

// Seal encrypts plain for one purpose ("unique_key"): AES-256-GCM under a key derived for it,
// with a random nonce.
func (v *Vault) Seal(purpose string, plain []byte) ([]byte, error) {
	aead, err := v.aead(purpose)
	if err != nil {
		return nil, err
	}
	return append([]byte{format}, aead.Seal(nil, nil, plain, []byte(purpose))...), nil
}

// Unseal decrypts what Seal made for the same purpose.
func (v *Vault) Unseal(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != format {
		return nil, errors.New("this was not sealed by the vault")
	}
	aead, err := v.aead(purpose)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed[1:], []byte(purpose))
	if err != nil {
		return nil, errors.New("the vault's key is not the one this was sealed with: restore the key file that belongs to this store")
	}
	return plain, nil
}

// Key is a key of 32 bytes for one purpose, derived from the vault's own.
func (v *Vault) Key(purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, v.master, nil, "holdfast "+purpose, keyBytes)
}

func (v *Vault) aead(purpose string) (cipher.AEAD, error) {
	key, err := v.Key(purpose)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
