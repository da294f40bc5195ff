package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// machineID returns what /etc/machine-id is to hold: the id that is kept in dir, or a new
// one that is kept there from now on.
func machineID(dir string) (string, error) {
	file := filepath.Join(dir, "machine-id")
	kept, err := os.ReadFile(file)
	if err == nil && validID(kept) {
		return string(kept), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	id := newID()
	partial := file + ".new"
	if err := write(partial, id); err != nil {
		return "", err
	}
	if err := os.Rename(partial, file); err != nil {
		return "", err
	}
	return id, syncDir(dir)
}

// newID is a random UUID of version 4 without dashes, as machine-id(5) wants it.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:]) + "\n"
}

func validID(id []byte) bool {
	if len(id) != 33 || id[32] != '\n' {
		return false
	}
	_, err := hex.DecodeString(string(id[:32]))
	return err == nil
}

func write(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o444)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
