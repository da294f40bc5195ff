# A Kubernetes node on Debian 13, as a disk that boots on EC2 and in the lab.
#
#   packer init packer/templates/node.pkr.hcl
#   packer build packer/templates/node.pkr.hcl

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

variable "signing_key" {
  type        = string
  description = "The private key, in PEM, that signs the provenance of the disk. Empty: it is not signed."
  default     = ""
}

variable "output" {
  type        = string
  description = "The directory that receives disk.raw and what describes it."
  default     = ".ovenbird/image"
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
  signing_key      = var.signing_key
  lock_file        = var.lock_file
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
}
