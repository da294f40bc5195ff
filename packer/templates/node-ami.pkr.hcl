# A Kubernetes node on Debian 13, as an AMI. No instance is launched for it.
#
#   packer init packer/templates/node-ami.pkr.hcl
#   packer build -var region=eu-central-1 packer/templates/node-ami.pkr.hcl

packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

variable "kubernetes_version" {
  type        = string
  description = "The full version of Kubernetes that the node runs, such as 1.37.2. Empty: the newest of the channel."
  default     = ""
}

variable "channel" {
  type        = string
  description = "Instead of a version: a minor such as 1.37 for its newest patch, or stable. Empty: stable, unless there is a version."
  default     = ""
}

variable "components_dir" {
  type        = string
  description = "Where `make components` has put the upstream programs."
  default     = "dist/components"
}

variable "agent_path" {
  type        = string
  description = "The ovenbird-agent program."
  default     = "bin/ovenbird-agent"
}

variable "control_plane" {
  type        = bool
  description = "Whether instances can host control planes too, of every Kubernetes version in components_dir."
  default     = false
}

variable "ovenbird_path" {
  type        = string
  description = "The ovenbird program, which control_plane installs."
  default     = "bin/ovenbird"
}

variable "extra_packages" {
  type        = list(string)
  description = "Debian packages besides, such as nfs-common."
  default     = []
}

variable "container_images" {
  type        = list(string)
  description = "Archives of container images that the node comes with: OCI layouts in a tar, or from docker save."
  default     = []
}

variable "kernel_arguments" {
  type        = list(string)
  description = "Arguments for the kernel besides, such as mitigations=auto."
  default     = []
}

variable "root_filesystem" {
  type        = string
  description = "verity: read-only and verified as it is read; ext4: a classic writable root."
  default     = "verity"
}

variable "disk_size" {
  type        = string
  description = "The size of the disk; the file is sparse, and a node grows to its volume."
  default     = "6GiB"
}

variable "lock_file" {
  type        = string
  description = "The ovenbird.lock.json of an earlier bake, to make the same image again. Empty: today's Debian."
  default     = ""
}

variable "output" {
  type        = string
  description = "The directory that receives disk.raw and what describes it."
  default     = ".ovenbird/image"
}

variable "secure_boot_key" {
  type        = string
  description = "The key, in PEM, that signs the kernel image for Secure Boot. Empty: instances start without."
  default     = ""
}

variable "secure_boot_certificate" {
  type        = string
  description = "The certificate of secure_boot_key. Instances of the AMI start only what it vouches for."
  default     = ""
}

variable "region" {
  type        = string
  description = "Where the AMI is made. Empty: the region of the AWS configuration."
  default     = ""
}

variable "copy_to" {
  type        = list(string)
  description = "Regions to copy the AMI to."
  default     = []
}

variable "share_with" {
  type        = list(string)
  description = "Accounts that may launch the AMI."
  default     = []
}

variable "ami_name" {
  type        = string
  description = "The AMI's name."
  default     = "ovenbird-{{.KubernetesVersion}}-{{timestamp}}"
}

variable "ssm_parameter" {
  type        = string
  description = "The SSM parameter that tells the newest AMI's id, such as /ovenbird/1.37/image_id. Empty: none."
  default     = ""
}

variable "image_channel" {
  type        = string
  description = "The channel that ssm_parameter may name, as {{.Channel}}."
  default     = "stable"
}

variable "deprecate_at" {
  type        = string
  description = "When the AMI is deprecated: a date, or a time from now in days or hours. Empty: never."
  default     = "180d"
}

variable "kms_keys" {
  type        = map(string)
  description = "The ARN of a KMS key for region and for each of copy_to. Empty: not encrypted, unless the account encrypts by default."
  default     = {}
}

data "ovenbird-release" "this" {
  kubernetes_version = var.kubernetes_version
  channel            = var.channel
}

source "ovenbird-image" "node" {
  output_directory = var.output
  disk_size        = var.disk_size
  root_filesystem  = var.root_filesystem
  extra_packages   = var.extra_packages
  kernel_arguments = var.kernel_arguments
  lock_file        = var.lock_file

  secure_boot_key         = var.secure_boot_key
  secure_boot_certificate = var.secure_boot_certificate
}

build {
  sources = ["source.ovenbird-image.node"]

  provisioner "ovenbird-node" {
    kubernetes_version = data.ovenbird-release.this.kubernetes_version
    components_dir     = var.components_dir
    agent_path         = var.agent_path
    ovenbird_path      = var.control_plane ? var.ovenbird_path : ""
    container_images   = var.container_images
  }
  post-processor "ovenbird-ami" {
    region        = var.region
    ami_name      = var.ami_name
    ami_regions   = var.copy_to
    ami_users     = var.share_with
    ssm_parameter = var.ssm_parameter
    channel       = var.image_channel
    deprecate_at  = var.deprecate_at

    encrypt_boot       = length(var.kms_keys) > 0
    kms_key_id         = lookup(var.kms_keys, var.region, "")
    region_kms_key_ids = { for name, key in var.kms_keys : name => key if name != var.region }
  }
}
