package backup

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"filippo.io/age"
)

// Key encrypts, signs and decrypts archives: an age identity (https://age-encryption.org).
// The zero of it, nil, leaves them as they are. It signs because anybody who has the public
// half, which is no secret, can encrypt.
type Key struct {
	identities []age.Identity
	recipient  age.Recipient
	signing    [][]byte // of each identity
}

// signingPurpose keeps what is derived for signing apart from any other use of an identity.
const signingPurpose = "ovenbird backup manifest"

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
	for _, identity := range identities {
		secret, ok := identity.(fmt.Stringer)
		if !ok {
			return nil, fmt.Errorf("%s: archives cannot be signed with a %T", path, identity)
		}
		signing, err := hkdf.Key(sha256.New, []byte(secret.String()), nil, signingPurpose, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		k.signing = append(k.signing, signing)
	}
	return k, nil
}

// sign returns the HMAC-SHA256 of a manifest, by the identity that archives are encrypted to.
func (k *Key) sign(manifest []byte) []byte { return authenticate(k.signing[0], manifest) }

// signed tells whether a manifest was signed with one of the identities, which only their
// owner can do. Without a key there is nothing to tell it by.
func (k *Key) signed(manifest, signature []byte) bool {
	return k == nil || slices.ContainsFunc(k.signing, func(signing []byte) bool {
		return hmac.Equal(authenticate(signing, manifest), signature)
	})
}

func authenticate(key, message []byte) []byte {
	code := hmac.New(sha256.New, key)
	code.Write(message)
	return code.Sum(nil)
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
