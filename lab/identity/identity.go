// Package identity holds the lab's principals: the administrator with a lasting access
// key, and instance roles with temporary ones. Temporary credentials are derived from the
// lab's secret, the instance and the hour, so that they outlive a restart of the lab
// without being kept anywhere, and end with their instance.
package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Credential is a lasting access key as the credentials file has it. `ovenbird serve`
// reads the same file.
type Credential struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	ARN             string `json:"arn"`
}

// File is the credentials file.
type File struct {
	Credentials []Credential `json:"credentials"`
}

// EnsureCredentials makes the credentials file with a key for arn, unless there is one.
func EnsureCredentials(path, arn string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	random := make([]byte, 40)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make an access key: %w", err)
	}
	return state.WriteJSON(path, File{Credentials: []Credential{{
		AccessKeyID:     "AKIA" + id(random[:10]),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random[10:]),
		ARN:             arn,
	}}}, 0o600)
}

// EnsurePolicy makes the file that allows arn everything at the EKS API, as `ovenbird serve
// --policy` reads it, unless there is one.
func EnsurePolicy(path, arn string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	type statement struct {
		Principals []string `json:"principals"`
		Actions    []string `json:"actions"`
		Resources  []string `json:"resources"`
	}
	return state.WriteJSON(path, map[string][]statement{"statements": {
		{Principals: []string{arn}, Actions: []string{"eks:*"}, Resources: []string{"*"}},
	}}, 0o600)
}

// ReadCredentials reads the credentials file.
func ReadCredentials(path string) ([]Credential, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the lab's credentials: %w", err)
	}
	var file File
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("read the lab's credentials from %s: %w", path, err)
	}
	if len(file.Credentials) == 0 {
		return nil, fmt.Errorf("read the lab's credentials from %s: there are none in it", path)
	}
	return file.Credentials, nil
}

// EnsureSecret makes the file with the lab's secret, unless there is one.
func EnsureSecret(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("make the lab's secret: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the lab's secret: %w", err)
	}
	return nil
}

// ReadSecret reads what EnsureSecret wrote.
func ReadSecret(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the lab's secret: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(secret) != 32 {
		return nil, fmt.Errorf("read the lab's secret from %s: want 64 hexadecimal digits", path)
	}
	return secret, nil
}

// Temporary credentials change every hour and last six, as on EC2.
const (
	period   = time.Hour
	lifetime = 6 * time.Hour
)

// Session is a role's temporary credentials on one instance.
type Session struct {
	sigv4.Credential
	Issued time.Time
}

// Roles derives the credentials of instance roles.
type Roles struct {
	Secret []byte
	Now    func() time.Time
}

// Session is what the metadata service hands out now to an instance whose session has
// the given ARN.
func (r Roles) Session(arn string) Session {
	return r.derive(arn, r.Now().Truncate(period))
}

// Lookup finds which of the sessions holds an access key, among those not yet expired.
func (r Roles) Lookup(accessKeyID string, arns []string) (sigv4.Credential, error) {
	if !strings.HasPrefix(accessKeyID, "ASIA") {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	now := r.Now()
	for issued := now.Truncate(period); now.Before(issued.Add(lifetime)); issued = issued.Add(-period) {
		for _, arn := range arns {
			if r.accessKeyID(arn, issued) == accessKeyID {
				return r.derive(arn, issued).Credential, nil
			}
		}
	}
	return sigv4.Credential{}, sigv4.ErrUnknownKey
}

func (r Roles) derive(arn string, issued time.Time) Session {
	return Session{
		Credential: sigv4.Credential{
			AccessKeyID:     r.accessKeyID(arn, issued),
			SecretAccessKey: base64.StdEncoding.EncodeToString(r.mac("secret", arn, issued)[:30]),
			SessionToken:    base64.StdEncoding.EncodeToString(append(r.mac("token", arn, issued), r.mac("token 2", arn, issued)...)),
			ARN:             arn,
			Expires:         issued.Add(lifetime),
		},
		Issued: issued,
	}
}

func (r Roles) accessKeyID(arn string, issued time.Time) string {
	return "ASIA" + id(r.mac("key", arn, issued)[:10])
}

func (r Roles) mac(what, arn string, issued time.Time) []byte {
	h := hmac.New(sha256.New, r.Secret)
	fmt.Fprintf(h, "role credentials\x00%s\x00%s\x00%d", what, arn, issued.Unix())
	return h.Sum(nil)
}

// Keys finds every access key of the lab.
type Keys struct {
	Lasting  []Credential
	Roles    Roles
	Sessions func() []string // the ARNs of the sessions that instances have
}

// Lookup implements sigv4.Keys.
func (k Keys) Lookup(_ context.Context, accessKeyID string) (sigv4.Credential, error) {
	for _, c := range k.Lasting {
		if c.AccessKeyID == accessKeyID {
			return sigv4.Credential{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, ARN: c.ARN}, nil
		}
	}
	return k.Roles.Lookup(accessKeyID, k.Sessions())
}

// UniqueID is the ID that IAM gives a principal, such as AROA... for a role: its prefix
// and 17 characters that stay the same for the same ARN.
func UniqueID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + id(sum[:11])[:17]
}

// id spells bytes as AWS spells IDs: capital letters and 2 to 7.
func id(b []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}
