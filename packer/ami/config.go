// Package ami is the Packer post-processor ovenbird-ami. It makes an AMI of a disk without
// launching an instance: the disk's blocks go into an EBS snapshot, the snapshot is
// registered, and the image is copied, shared and published as the template says. Whatever
// it makes at AWS it writes down first; a build that fails or is cancelled removes it, and
// one that was killed is gone on with by the next, or removed by `sweep`.
package ami

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"
)

//go:generate go run -modfile=../packer-sdc.mod github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc mapstructure-to-hcl2 -type Config

// Config is what a template says in a post-processor block of type ovenbird-ami.
//
// `ami_name`, `ami_description`, `tags`, `snapshot_tags` and `ssm_parameter` may hold
// `{{timestamp}}`, `{{.KubernetesVersion}}`, `{{.Channel}}`, `{{.Content}}` (the first
// twelve digits of the disk's content hash), `{{.Kernel}}` and what else the builder's
// artifact tells about itself.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// The region in which the snapshot is made and the image registered. Default: that of
	// the AWS configuration (`AWS_REGION` or the profile's).
	Region string `mapstructure:"region"`
	// The profile of the AWS configuration to use. Credentials come from where the AWS CLI
	// takes them.
	Profile string `mapstructure:"profile"`
	// Which of the artifact's files is the disk, by its base name; needed only when there
	// are several that could be it. A disk made by another builder must be raw.
	Disk string `mapstructure:"disk"`

	// The image's name, which must be new in each region. Default
	// `ovenbird-{{.KubernetesVersion}}-{{timestamp}}`.
	AMIName string `mapstructure:"ami_name"`
	// The image's description.
	AMIDescription string `mapstructure:"ami_description"`
	// Tags of the image, in all regions.
	Tags map[string]string `mapstructure:"tags"`
	// Tags of the snapshots, in all regions. Default: those of the image.
	SnapshotTags map[string]string `mapstructure:"snapshot_tags"`
	// The size in GiB of the root volume of an instance; at least, and by default, the
	// disk's. The volume is of type gp3.
	VolumeSize int64 `mapstructure:"volume_size"`
	// The name of the root device. Default `/dev/xvda`.
	RootDeviceName string `mapstructure:"root_device_name"`

	// A file with the certificates, in PEM, whose keys may sign what boots (db). Instances
	// then start with Secure Boot on. Default: the certificate of the key with which the
	// builder has signed the image; without one, Secure Boot stays off.
	SecureBootCertificate string `mapstructure:"secure_boot_certificate"`
	// A file with the certificates that may change what boots (KEK). Default:
	// `secure_boot_certificate`.
	SecureBootExchangeCertificate string `mapstructure:"secure_boot_exchange_certificate"`
	// A file with the certificate of the platform key (PK). Default: the first of
	// `secure_boot_exchange_certificate`.
	SecureBootPlatformCertificate string `mapstructure:"secure_boot_platform_certificate"`

	// Encrypt the snapshots. An account that encrypts by default does so anyhow.
	Encrypt bool `mapstructure:"encrypt_boot"`
	// The ARN of the KMS key in `region`. Default, with `encrypt_boot`: the account's own,
	// with which an image cannot be shared.
	KMSKeyID string `mapstructure:"kms_key_id"`
	// The KMS key of each region of `ami_regions`, by the region's name.
	RegionKMSKeyIDs map[string]string `mapstructure:"region_kms_key_ids"`

	// Regions to copy the image to, all at once.
	AMIRegions []string `mapstructure:"ami_regions"`
	// Accounts that may launch the image. An image that is there already keeps those that are
	// no longer named here; so it is with all fields that share.
	AMIUsers []string `mapstructure:"ami_users"`
	// Organisations whose accounts may launch the image, by their ARNs.
	AMIOrgARNs []string `mapstructure:"ami_org_arns"`
	// Organisational units whose accounts may launch the image, by their ARNs.
	AMIOUARNs []string `mapstructure:"ami_ou_arns"`
	// Accounts that may also copy the image and make volumes of its snapshots. Launching
	// does not need it.
	SnapshotUsers []string `mapstructure:"snapshot_users"`
	// Let everyone at AWS launch the image. Needs `public_confirmed` too.
	Public bool `mapstructure:"public"`
	// Yes, everyone: `public` alone is taken for a mistake.
	PublicConfirmed bool `mapstructure:"public_confirmed"`
	// When the image is deprecated, and listed no more to those it is shared with: a date
	// (`2027-01-31T00:00:00Z`), or a time from now in days or hours (`90d`, `2160h`).
	DeprecateAt string `mapstructure:"deprecate_at"`

	// The SSM parameter that tells the image's id in each region, such as
	// `/ovenbird/{{.KubernetesVersion}}/{{.Channel}}/image_id`. It changes last, when all
	// else is done.
	SSMParameter string `mapstructure:"ssm_parameter"`
	// The channel for `ssm_parameter`. Default `stable`.
	Channel string `mapstructure:"channel"`

	// What the snapshot starts from, so that only what differs is uploaded: `auto`
	// (default), the most similar snapshot that this machine has uploaded; `none`; or the
	// id of a snapshot that this machine has uploaded.
	ParentSnapshot string `mapstructure:"parent_snapshot"`
	// The most blocks of 512 KiB to send at once, to 256. Default 64. How many it really is
	// follows from what AWS accepts.
	MaxConcurrency int `mapstructure:"max_concurrency"`
	// Where builds write down what they make at AWS, and the hashes of the blocks of
	// earlier snapshots. Default `ovenbird/ami` in `$XDG_STATE_HOME`.
	JournalDirectory string `mapstructure:"journal_directory"`

	ctx interpolate.Context
}

// late are the fields that are rendered when the disk is there.
var late = []string{"ami_name", "ami_description", "tags", "snapshot_tags", "ssm_parameter"}

const (
	defaultName       = "ovenbird-{{.KubernetesVersion}}-{{timestamp}}"
	defaultRootDevice = "/dev/xvda"
	defaultChannel    = "stable"
	parentAuto        = "auto"
	parentNone        = "none"
	mostConcurrency   = 256
)

// prepare decodes what the template says, fills in defaults and checks every field.
func (c *Config) prepare(raws ...any) error {
	err := config.Decode(c, &config.DecodeOpts{
		PluginType:         "ovenbird-ami",
		Interpolate:        true,
		InterpolateContext: &c.ctx,
		InterpolateFilter:  &interpolate.RenderFilter{Exclude: late},
	}, raws...)
	if err != nil {
		return err
	}
	for field, to := range map[*string]string{
		&c.AMIName: defaultName, &c.RootDeviceName: defaultRootDevice, &c.Channel: defaultChannel, &c.ParentSnapshot: parentAuto,
	} {
		if *field == "" {
			*field = to
		}
	}
	if c.SnapshotTags == nil {
		c.SnapshotTags = c.Tags
	}
	return errors.Join(c.prepareImage(), c.prepareSecureBoot(), c.prepareRegions(), c.prepareSharing(), c.prepareJournal())
}

var snapshotID = regexp.MustCompile(`^snap-[0-9a-f]+$`)

func (c *Config) prepareImage() error {
	if c.VolumeSize < 0 {
		return fmt.Errorf("volume_size: %d is not a size in GiB", c.VolumeSize)
	}
	if c.MaxConcurrency < 0 || c.MaxConcurrency > mostConcurrency {
		return fmt.Errorf("max_concurrency: %d is not within 1 to %d", c.MaxConcurrency, mostConcurrency)
	}
	if c.ParentSnapshot != parentAuto && c.ParentSnapshot != parentNone && !snapshotID.MatchString(c.ParentSnapshot) {
		return fmt.Errorf("parent_snapshot: %q is neither %s nor %s nor the id of a snapshot", c.ParentSnapshot, parentAuto, parentNone)
	}
	if _, err := deprecation(c.DeprecateAt, time.Now()); err != nil {
		return err
	}
	for key := range c.Tags {
		if strings.HasPrefix(key, tagPrefix) || strings.HasPrefix(key, "aws:") {
			return fmt.Errorf("tags: %s is set by others: keys that start with %s and aws: are taken", key, tagPrefix)
		}
	}
	// With placeholders, so that a slip shows before anything is baked.
	_, err := c.render(map[string]any{}, time.Now())
	return err
}

func (c *Config) prepareSecureBoot() error {
	if c.SecureBootCertificate == "" && (c.SecureBootExchangeCertificate != "" || c.SecureBootPlatformCertificate != "") {
		return errors.New("secure_boot_certificate: must be set when the exchange or platform certificate is")
	}
	if c.SecureBootCertificate == "" {
		return nil
	}
	_, err := c.uefiData("")
	return err
}

var regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

func (c *Config) prepareRegions() error {
	for _, region := range slices.Concat(c.AMIRegions, []string{c.Region}) {
		if region != "" && !regionName.MatchString(region) {
			return fmt.Errorf("region, ami_regions: %q is not the name of a region", region)
		}
	}
	if c.KMSKeyID != "" && !strings.HasPrefix(c.KMSKeyID, "arn:") {
		return fmt.Errorf("kms_key_id: %q is not an ARN, which the EBS direct APIs need", c.KMSKeyID)
	}
	if !c.Encrypt && (c.KMSKeyID != "" || len(c.RegionKMSKeyIDs) > 0) {
		return errors.New("kms_key_id, region_kms_key_ids: need encrypt_boot = true")
	}
	for region := range c.RegionKMSKeyIDs {
		if !slices.Contains(c.AMIRegions, region) {
			return fmt.Errorf("region_kms_key_ids: %s is not among ami_regions", region)
		}
	}
	for _, region := range c.AMIRegions {
		if c.KMSKeyID != "" && c.RegionKMSKeyIDs[region] == "" && region != c.Region {
			return fmt.Errorf("region_kms_key_ids: has no key for %s; keys do not reach into other regions", region)
		}
	}
	return nil
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

func (c *Config) prepareSharing() error {
	for _, account := range slices.Concat(c.AMIUsers, c.SnapshotUsers) {
		if !accountID.MatchString(account) {
			return fmt.Errorf("ami_users, snapshot_users: %q is not an account's id of twelve digits", account)
		}
	}
	for _, arn := range c.AMIOrgARNs {
		if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":organization/") {
			return fmt.Errorf("ami_org_arns: %q is not the ARN of an organisation", arn)
		}
	}
	for _, arn := range c.AMIOUARNs {
		if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":ou/") {
			return fmt.Errorf("ami_ou_arns: %q is not the ARN of an organisational unit", arn)
		}
	}
	shared := len(c.AMIUsers)+len(c.AMIOrgARNs)+len(c.AMIOUARNs)+len(c.SnapshotUsers) > 0
	switch {
	case c.Public != c.PublicConfirmed:
		return errors.New("public, public_confirmed: everyone at AWS can launch a public image: set both, or neither")
	case c.Public && c.Encrypt:
		return errors.New("public: an encrypted image cannot be public")
	case shared && c.Encrypt && c.KMSKeyID == "":
		return errors.New("kms_key_id: must be set to share an encrypted image: the account's own key cannot be shared")
	}
	return nil
}

func (c *Config) prepareJournal() error {
	dir, err := stateDirectory(c.JournalDirectory)
	if err != nil {
		return fmt.Errorf("journal_directory: %w", err)
	}
	c.JournalDirectory = dir
	return nil
}

// stateDirectory is dir, or the user's default.
func stateDirectory(dir string) (string, error) {
	if dir == "" {
		if state := os.Getenv("XDG_STATE_HOME"); state != "" {
			dir = filepath.Join(state, "ovenbird", "ami")
		} else {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("must be set, as there is no home directory: %w", err)
			}
			dir = filepath.Join(home, ".local", "state", "ovenbird", "ami")
		}
	}
	return filepath.Abs(dir)
}

// key is the KMS key for a region; empty for the account's own.
func (c *Config) key(region, home string) string {
	if region == home {
		return c.KMSKeyID
	}
	return c.RegionKMSKeyIDs[region]
}

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// deprecation reads deprecate_at; the zero time means never.
func deprecation(at string, now time.Time) (time.Time, error) {
	if at == "" {
		return time.Time{}, nil
	}
	if m := days.FindStringSubmatch(at); m != nil {
		n := 0
		_, _ = fmt.Sscan(m[1], &n)
		return now.AddDate(0, 0, n).UTC(), nil
	}
	if d, err := time.ParseDuration(at); err == nil {
		if d <= 0 {
			return time.Time{}, fmt.Errorf("deprecate_at: %s is not in the future", at)
		}
		return now.Add(d).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return time.Time{}, fmt.Errorf("deprecate_at: %q is neither a date such as 2027-01-31T00:00:00Z nor a time such as 90d or 2160h", at)
	}
	if !t.After(now) {
		return time.Time{}, fmt.Errorf("deprecate_at: %s is not in the future", at)
	}
	return t.UTC(), nil
}
