package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"filippo.io/age"
)

// Key encrypts and decrypts archives: an age identity (https://age-encryption.org). The
// zero of it, nil, leaves them as they are.
type Key struct {
	identities []age.Identity
	recipient  age.Recipient
}

// ReadKey reads a file as `age-keygen` and MakeKey write it. Nobody but its owner may read it.
func ReadKey(path string) (*Key, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make one with `ovenbird backup-key`", err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others: chmod 600", path)
	}
	identities, err := age.ParseIdentities(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k := &Key{identities: identities}
	switch first := identities[0].(type) {
	case *age.X25519Identity:
		k.recipient = first.Recipient()
	case *age.HybridIdentity:
		k.recipient = first.Recipient()
	default:
		return nil, fmt.Errorf("%s: archives cannot be encrypted to a %T", path, first)
	}
	return k, nil
}

// MakeKey writes a new key to a file that must not be there, and returns the public half.
func MakeKey(path string) (public string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	public = identity.Recipient().String()
	_, err = fmt.Fprintf(file, "# public key: %s\n%s\n", public, identity)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return public, nil
}

// seal encrypts what is written, until Close.
func (k *Key) seal(to io.Writer) (io.WriteCloser, error) {
	if k == nil {
		return unsealed{to}, nil
	}
	sealed, err := age.Encrypt(to, k.recipient)
	if err != nil {
		return nil, fmt.Errorf("encrypt archive: %w", err)
	}
	return sealed, nil
}

type unsealed struct{ io.Writer }

func (unsealed) Close() error { return nil }

// open decrypts what is read. The error of a read tells of damage.
func (k *Key) open(from io.Reader) (io.Reader, error) {
	if k == nil {
		return from, nil
	}
	opened, err := age.Decrypt(from, k.identities...)
	if err != nil {
		return nil, fmt.Errorf("decrypt archive, is it encrypted with this key? %w", err)
	}
	return opened, nil
}
