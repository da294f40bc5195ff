package image

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

//go:generate go run -modfile=../packer-sdc.mod github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc mapstructure-to-hcl2 -type Config,Except

// Config is what a template says in a source block of type ovenbird-image.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// The directory that receives disk.raw. A disk that is there already is replaced
	// only with -force, and then in one step at the end of a build that succeeded.
	OutputDirectory string `mapstructure:"output_directory" required:"true"`
	// The size of the disk, such as 6GiB. The file is sparse: it takes the room of
	// what is in it. A node grows its last partition to its volume at first boot.
	// Default 6GiB, at least 2GiB, in whole MiB.
	DiskSize string `mapstructure:"disk_size"`
	// How the node keeps its root file system: verity (default), compressed, read-only
	// and verified block by block against a hash that the kernel's command line carries,
	// with /etc in memory and /var on a partition of its own; or ext4, a writable root.
	RootFilesystem string `mapstructure:"root_filesystem"`
	// Makes the image that a lock describes, bit for bit, of its packages and no others:
	// the ovenbird.lock.json of an earlier bake. Default: the newest packages there are.
	LockFile string `mapstructure:"lock_file"`
	// The Debian archive, and with it SecurityMirror. Default: Debian's own, which the
	// node names in any case. Packages are checked against Debian's keys or the lock's
	// hashes wherever they come from.
	Mirror string `mapstructure:"mirror"`
	// The Debian security archive; goes with Mirror.
	SecurityMirror string `mapstructure:"security_mirror"`
	// Debian packages to install beside those that a machine needs to boot.
	ExtraPackages []string `mapstructure:"extra_packages"`
	// Arguments for the kernel beside those that find the root file system and the
	// console, such as "mitigations=auto".
	KernelArguments []string `mapstructure:"kernel_arguments"`
	// A private key in PEM, RSA and not encrypted, that signs the kernel image for UEFI
	// Secure Boot; goes with SecureBootCertificate. Machines boot the disk when the
	// certificate is in their db, and so does a machine without Secure Boot.
	SecureBootKey string `mapstructure:"secure_boot_key"`
	// The X.509 certificate in PEM of SecureBootKey.
	SecureBootCertificate string `mapstructure:"secure_boot_certificate"`
	// Where downloaded packages and the tools that make the disk are kept between
	// builds. Default: ovenbird in the user's cache directory ($XDG_CACHE_HOME).
	CacheDirectory string `mapstructure:"cache_directory"`

	// A private key in PEM, P-256 and not encrypted, that signs provenance.json, as
	// `cosign sign-blob` does. Nobody but its owner may be able to read the file.
	SigningKey string `mapstructure:"signing_key"`
	// Blocks of this name accept that the image fails a control, and say why. The report
	// names the controls.
	Exceptions []Except `mapstructure:"except"`

	locked           *lock.Lock // what LockFile says
	diskBytes        int64
	secureBootSHA256 string // of the certificate's DER
	ctx              interpolate.Context
}

// Except accepts that the image fails a control.
type Except struct {
	// The control, as the report names it, such as no-ssh-server.
	Control string `mapstructure:"control" required:"true"`
	// Why that is right for this image; the report repeats it.
	Reason string `mapstructure:"reason" required:"true"`
}

const defaultDiskSize = "6GiB"

// Values of root_filesystem.
const (
	rootVerity = "verity"
	rootExt4   = "ext4"
)

// packageName is Debian's own rule (policy 5.6.7), with an optional architecture.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$`)

// prepare decodes what the template says, fills in defaults and checks every field.
func (c *Config) prepare(raws ...any) error {
	err := config.Decode(c, &config.DecodeOpts{
		PluginType:         "ovenbird-image",
		Interpolate:        true,
		InterpolateContext: &c.ctx,
	}, raws...)
	if err != nil {
		return err
	}
	return errors.Join(c.prepareOutput(), c.prepareRoot(), c.prepareSize(), c.prepareSources(), c.prepareSecureBoot(), c.prepareSigning(), c.prepareCache(), c.prepareExceptions(), c.prepareLock())
}

func (c *Config) prepareOutput() error {
	if c.OutputDirectory == "" {
		return errors.New("output_directory: must be set to the directory that receives disk.raw")
	}
	dir, err := filepath.Abs(c.OutputDirectory)
	if err != nil {
		return fmt.Errorf("output_directory: %w", err)
	}
	c.OutputDirectory = dir
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("output_directory: %s is not a directory", dir)
	}
	return nil
}

func (c *Config) prepareRoot() error {
	switch c.RootFilesystem {
	case "":
		c.RootFilesystem = rootVerity
	case rootVerity, rootExt4:
	default:
		return fmt.Errorf("root_filesystem: %q is neither %s nor %s", c.RootFilesystem, rootVerity, rootExt4)
	}
	return nil
}

func (c *Config) prepareSize() error {
	if c.DiskSize == "" {
		c.DiskSize = defaultDiskSize
	}
	size, err := parseSize(c.DiskSize)
	if err != nil {
		return fmt.Errorf("disk_size: %w", err)
	}
	c.diskBytes = size
	return nil
}

func (c *Config) prepareSources() error {
	if (c.Mirror == "") != (c.SecurityMirror == "") {
		return errors.New("mirror, security_mirror: must be set together, or neither")
	}
	for field, value := range map[string]string{"mirror": c.Mirror, "security_mirror": c.SecurityMirror} {
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%s: %q is not an http or https address", field, value)
		}
	}
	for _, name := range c.ExtraPackages {
		if !packageName.MatchString(name) {
			return fmt.Errorf("extra_packages: %q is not the name of a Debian package", name)
		}
	}
	for _, argument := range c.KernelArguments {
		if argument == "" || strings.ContainsAny(argument, "\x00\n") {
			return fmt.Errorf("kernel_arguments: %q is not a kernel argument", argument)
		}
	}
	return nil
}

func (c *Config) prepareSecureBoot() error {
	if (c.SecureBootKey == "") != (c.SecureBootCertificate == "") {
		return errors.New("secure_boot_key, secure_boot_certificate: must be set together, or neither")
	}
	if c.SecureBootKey == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.SecureBootCertificate, c.SecureBootKey)
	if err != nil {
		return fmt.Errorf("secure_boot_key, secure_boot_certificate: %w", err)
	}
	if key, ok := pair.Leaf.PublicKey.(*rsa.PublicKey); !ok || key.Size() < 256 {
		return errors.New("secure_boot_key: firmware verifies RSA keys of 2048 bits and more only")
	}
	sum := sha256.Sum256(pair.Leaf.Raw)
	c.secureBootSHA256 = hex.EncodeToString(sum[:])
	for _, file := range []*string{&c.SecureBootKey, &c.SecureBootCertificate} {
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("secure_boot_key, secure_boot_certificate: %w", err)
		}
	}
	return nil
}

// prepareLock reads the lock. A template that says something else than the lock is
// refused before anything is installed.
func (c *Config) prepareLock() error {
	if c.LockFile == "" {
		return nil
	}
	l, err := lock.Read(c.LockFile)
	if err != nil {
		return fmt.Errorf("lock_file: %w", err)
	}
	c.locked = &l
	return nil
}

func (c *Config) prepareCache() error {
	if c.CacheDirectory == "" {
		c.CacheDirectory = os.Getenv("OVENBIRD_CACHE")
	}
	if c.CacheDirectory == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("cache_directory: must be set, as there is no user cache directory: %w", err)
		}
		c.CacheDirectory = filepath.Join(user, "ovenbird")
	}
	dir, err := filepath.Abs(c.CacheDirectory)
	if err != nil {
		return fmt.Errorf("cache_directory: %w", err)
	}
	c.CacheDirectory = dir
	return nil
}

func (c *Config) prepareSigning() error {
	if c.SigningKey == "" {
		return nil
	}
	file, err := filepath.Abs(c.SigningKey)
	if err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	c.SigningKey = file
	if _, err := attest.ReadKey(file); err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	return nil
}

func (c *Config) prepareExceptions() error {
	var errs []error
	for i, e := range c.Exceptions {
		twice := slices.ContainsFunc(c.Exceptions[:i], func(before Except) bool { return before.Control == e.Control })
		switch {
		case !inspect.Known(e.Control):
			errs = append(errs, fmt.Errorf("except: there is no control %q; report.txt of a build names them", e.Control))
		case strings.TrimSpace(e.Reason) == "":
			errs = append(errs, fmt.Errorf("except: %s: the reason is missing", e.Control))
		case twice:
			errs = append(errs, fmt.Errorf("except: %s is there twice", e.Control))
		}
	}
	return errors.Join(errs...)
}
