package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Parameters is SSM's parameter store.
type Parameters interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	PutParameter(context.Context, *ssm.PutParameterInput, ...func(*ssm.Options)) (*ssm.PutParameterOutput, error)
}

// unsaved is a key that SSM does not have yet. No backup is made with it.
const unsaved = keyFile + ".unsaved"

// ensureKey brings the key of backups to the volume. It is the one that SSM keeps, since a
// backup is for the day on which the volume is gone; the first host makes it, and uses it only
// once it is there. A host that has the key starts without SSM too.
func (h *Host) ensureKey(ctx context.Context) error {
	name := h.Spec.Backups.KeyParameter
	found, err := h.Clouds.Parameters.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	var missing *types.ParameterNotFound
	switch {
	case err == nil && found.Parameter != nil:
		key := []byte(aws.ToString(found.Parameter.Value))
		return h.Root.Apply(rootfs.File{Path: keyFile, Mode: 0o600, Data: key}, rootfs.File{Path: unsaved})
	case errors.As(err, &missing):
		return h.saveKey(ctx)
	}
	if _, statErr := os.Stat(h.Root.Join(keyFile)); statErr == nil {
		h.Log.Warn("the key of backups is not compared with SSM's", zap.String("parameter", name), zap.Error(err))
		return nil
	}
	return fmt.Errorf("read the parameter %s: %w", name, err)
}

// saveKey gives SSM the key: the volume's, if SSM has lost it, or a new one.
func (h *Host) saveKey(ctx context.Context) error {
	key, err := os.ReadFile(h.Root.Join(keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err = h.newKey()
	}
	if err != nil {
		return fmt.Errorf("make the key of backups: %w", err)
	}
	name := h.Spec.Backups.KeyParameter
	input := &ssm.PutParameterInput{
		Name: &name, Value: aws.String(string(key)), Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(false),
		Description: aws.String("The key that Ovenbird's backups are encrypted with. Without it none can be read."),
	}
	if id := h.Spec.Backups.KMSKeyID; id != "" {
		input.KeyId = &id
	}
	if _, err := h.Clouds.Parameters.PutParameter(ctx, input); err != nil {
		return fmt.Errorf("keep the key of backups in the parameter %s: %w", name, err)
	}
	return h.Root.Apply(rootfs.File{Path: keyFile, Mode: 0o600, Data: key}, rootfs.File{Path: unsaved})
}

// newKey returns the key that an earlier attempt has made, or a new one.
func (h *Host) newKey() ([]byte, error) {
	path := h.Root.Join(unsaved)
	if key, err := os.ReadFile(path); err == nil && bytes.HasSuffix(key, []byte("\n")) {
		return key, nil
	}
	if err := h.Root.Apply(rootfs.File{Path: unsaved}); err != nil { // half a key
		return nil, err
	}
	if err := h.MakeKey(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
