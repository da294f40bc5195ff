package iam

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// maxKeys bounds the credentials file, in bytes.
const maxKeys = 1 << 20

type staticKeys map[string]sigv4.Credential

func (k staticKeys) Lookup(_ context.Context, accessKeyID string) (sigv4.Credential, error) {
	credential, ok := k[accessKeyID]
	if !ok {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	return credential, nil
}

// ReadKeys reads the access keys whose signatures the EKS API takes; what their principals
// may do is the policy's to say. AWS gives nobody the secret behind a signature, so whoever
// runs the service names the keys it knows:
//
//	{"credentials": [{"accessKeyId": "...", "secretAccessKey": "...", "arn": "..."}]}
//
// The file holds secrets: one that others on the machine may read is refused.
func ReadKeys(path string) (sigv4.Keys, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read credentials: %s has mode %04o and may be read by others: run chmod 600 %s", path, mode, path)
	}
	var document struct {
		Credentials []struct {
			AccessKeyID     string `json:"accessKeyId"`
			SecretAccessKey string `json:"secretAccessKey"`
			SessionToken    string `json:"sessionToken"`
			ARN             string `json:"arn"`
		} `json:"credentials"`
	}
	if err := json.NewDecoder(io.LimitReader(file, maxKeys)).Decode(&document); err != nil {
		return nil, fmt.Errorf("read credentials: %s is not JSON of the form {\"credentials\": [...]}: %w", path, err)
	}
	keys := staticKeys{}
	for i, c := range document.Credentials {
		if c.AccessKeyID == "" || c.SecretAccessKey == "" || c.ARN == "" {
			return nil, fmt.Errorf("read credentials: %s: entry %d lacks accessKeyId, secretAccessKey or arn", path, i)
		}
		if _, twice := keys[c.AccessKeyID]; twice {
			return nil, fmt.Errorf("read credentials: %s: the access key %s is there twice", path, c.AccessKeyID)
		}
		keys[c.AccessKeyID] = sigv4.Credential{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken, ARN: c.ARN}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read credentials: %s names no access key, so nobody could call the service", path)
	}
	return keys, nil
}
