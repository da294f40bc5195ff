package ami

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
)

// wish is what the template asks for, with everything filled in.
type wish struct {
	name, description  string
	tags, snapshotTags map[string]string
	parameter          string
	deprecate          time.Time // zero: never
	uefiData           string
	rootDevice         string
	diskGiB, volumeGiB int64
}

// What EC2 takes for an image's name.
var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

var parameterName = regexp.MustCompile(`^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// render fills in the template's variables. What the artifact does not tell is empty.
func (c *Config) render(values map[string]any, now time.Time) (wish, error) {
	ctx := c.ctx
	data := map[string]any{"KubernetesVersion": "", "Kernel": "", "Content": ""}
	maps.Copy(data, values)
	data["Channel"] = c.Channel
	ctx.Data = data

	var w wish
	var errs []error
	text := func(field, from string) string {
		out, err := interpolate.Render(from, &ctx)
		if err == nil && strings.Contains(out, "<no value>") {
			err = fmt.Errorf("%q names a variable that is not there", from)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		return out
	}
	texts := func(field string, from map[string]string) map[string]string {
		out := map[string]string{}
		for key, value := range from {
			out[text(field, key)] = text(field, value)
		}
		return out
	}
	w.name = text("ami_name", c.AMIName)
	if c.AMIName == defaultName {
		w.name = strings.Replace(w.name, "--", "-", 1) // a disk that is no Kubernetes node
	}
	w.description = text("ami_description", c.AMIDescription)
	w.tags, w.snapshotTags = texts("tags", c.Tags), texts("snapshot_tags", c.SnapshotTags)
	w.parameter = text("ssm_parameter", c.SSMParameter)
	w.rootDevice = c.RootDeviceName
	if len(errs) > 0 {
		return wish{}, errors.Join(errs...)
	}
	if !imageName.MatchString(w.name) {
		return wish{}, fmt.Errorf("ami_name: %q is not a name for an image: 3 to 128 letters, digits and any of ()[] ./-'@_", w.name)
	}
	// Without its values a parameter's name may have parts that are empty.
	if len(values) > 0 && w.parameter != "" && !parameterName.MatchString(w.parameter) {
		return wish{}, fmt.Errorf("ssm_parameter: %q is not a parameter's name: parts of letters, digits and any of _.-, divided by slashes", w.parameter)
	}
	var err error
	w.deprecate, err = deprecation(c.DeprecateAt, now)
	return w, err
}

// options is a hash of what, beside the disk, cannot be changed about an image once it is
// registered. Two builds with the same disk and options want the same image. keys are the
// KMS keys of one region or of several, by its name.
func (c *Config) options(w wish, keys map[string]string) (string, error) {
	plain, err := json.Marshal(struct {
		Version                         int
		Name, Description, Device, UEFI string
		VolumeGiB                       int64
		Encrypt                         bool
		Keys                            map[string]string
	}{1, c.AMIName, c.AMIDescription, w.rootDevice, w.uefiData, w.volumeGiB, c.Encrypt, keys})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(plain)
	return hex.EncodeToString(sum[:]), nil
}

// encryption names how snapshots in the home region are encrypted, for file names.
func (c *Config) encryption() string {
	if !c.Encrypt {
		return "plain"
	}
	sum := sha256.Sum256([]byte(c.KMSKeyID))
	return hex.EncodeToString(sum[:4])
}

// maxUEFIData is how much RegisterImage takes.
const maxUEFIData = 64000

// uefiData is the UEFI variables for Secure Boot, or "" when no certificate is given here
// nor by the artifact.
func (c *Config) uefiData(signedWith string) (string, error) {
	db, dbFile := c.SecureBootCertificate, "secure_boot_certificate"
	if db == "" {
		db = signedWith
	}
	if db == "" {
		return "", nil
	}
	database, err := certificates(db)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dbFile, err)
	}
	exchange := database
	if c.SecureBootExchangeCertificate != "" {
		if exchange, err = certificates(c.SecureBootExchangeCertificate); err != nil {
			return "", fmt.Errorf("secure_boot_exchange_certificate: %w", err)
		}
	}
	platform := exchange
	if c.SecureBootPlatformCertificate != "" {
		if platform, err = certificates(c.SecureBootPlatformCertificate); err != nil {
			return "", fmt.Errorf("secure_boot_platform_certificate: %w", err)
		}
	}
	text, err := uefivars.Encode(uefivars.SecureBoot(platform[0], exchange, database))
	if err != nil {
		return "", fmt.Errorf("secure_boot_certificate: %w", err)
	}
	if len(text) > maxUEFIData {
		return "", fmt.Errorf("secure_boot_certificate: the certificates come to %d characters, EC2 takes %d", len(text), maxUEFIData)
	}
	return text, nil
}

// certificates reads a file of one or more certificates in PEM.
func certificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s: give the certificate only, the key stays where it signs", path, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return all, nil
}
