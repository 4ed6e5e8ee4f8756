"""The JSON forms of everything, key by key as recorded."""

from __future__ import annotations

from datetime import timedelta

from .world import AccessToken, Background, Job, Json, Label, Organization, Project, Task, User, World
from .world import stamp as at

CHUNK_SIZE = 72
KEPT_FOR = {"finished": timedelta(seconds=500), "failed": timedelta(days=365)}


def about(base: str) -> Json:
    return {
        "name": "Computer Vision Annotation Tool",
        "description": "A stand-in that answers as CVAT does, for tests.",
        "version": "2.73.0",
        "logo_url": f"{base}/static/logo.svg",
        "subtitle": "Open Data Annotation Platform",
    }


def user(found: User, base: str) -> Json:
    return {
        **found.short(base),
        "email": f"{found.username}@localhost.local",
        "groups": ["admin" if found.superuser else "user"],
        "is_staff": found.superuser,
        "is_superuser": found.superuser,
        "is_active": True,
        "last_login": at(found.last_login),
        "date_joined": at(found.joined),
        "has_analytics_access": found.superuser,
    }


def access_token(token: AccessToken, base: str) -> Json:
    return {
        "id": token.id,
        "name": token.name,
        "created_date": at(token.created),
        "updated_date": at(token.created),
        "expiry_date": None,
        "last_used_date": at(token.last_used),
        "read_only": token.read_only,
        "owner": token.owner.short(base),
    }


def organization(found: Organization, base: str) -> Json:
    return {
        "id": found.id,
        "slug": found.slug,
        "name": found.slug,
        "description": "",
        "created_date": at(found.created),
        "updated_date": at(found.created),
        "contact": {},
        "owner": found.owner.short(base),
    }


def label(found: Label) -> Json:
    parent = {"project_id": found.project_id} if found.project_id is not None else {"task_id": found.task_id}
    return {
        "id": found.id,
        "name": found.name,
        "color": found.color,
        "attributes": found.attributes,
        "type": found.type,
        "sublabels": [],
        **parent,
        "parent_id": None,
        "has_parent": False,
    }


def project(found: Project, world: World, base: str) -> Json:
    tasks = [item for item in world.tasks.values() if item.project_id == found.id]
    return {
        "url": f"{base}/api/projects/{found.id}",
        "id": found.id,
        "name": found.name,
        "owner": found.owner.short(base),
        "assignee": None,
        "guide_id": None,
        "bug_tracker": "",
        "created_date": at(found.created),
        "updated_date": at(found.updated),
        "status": "annotation",
        "dimension": "2d" if any(item.ready for item in tasks) else None,
        "organization": found.organization,
        "organization_id": found.organization,
        "target_storage": None,
        "source_storage": None,
        "tasks": {"count": len(tasks), "url": f"{base}/api/tasks?project_id={found.id}"},
        "labels": {"url": f"{base}/api/labels?project_id={found.id}"},
        "assignee_updated_date": None,
        "task_subsets": [],
    }


def task(found: Task, world: World, base: str) -> Json:
    jobs = world.jobs_of(found.id)
    done = sum(job.status == "completed" for job in jobs)
    validation = sum(job.stage == "validation" for job in jobs)
    parent = world.projects.get(found.project_id) if found.project_id is not None else None
    value: Json = {
        "url": f"{base}/api/tasks/{found.id}",
        "id": found.id,
        "name": found.name,
        "project_id": found.project_id,
        "project_name": parent.name if parent else None,
        "owner": found.owner.short(base),
        "assignee": found.assignee.short(base) if found.assignee else None,
        "bug_tracker": "",
        "created_date": at(found.created),
        "updated_date": at(found.updated),
        "overlap": found.overlap,
        "segment_size": found.segment_size,
        "status": "completed" if jobs and done == len(jobs) else "annotation",
        "guide_id": None,
        "data": found.data.id if found.data else None,
        "dimension": "2d" if found.ready else "",
        "mode": "annotation" if found.ready else "",
        "media_type": "image" if found.ready else "",
        "subset": found.subset,
        "organization_id": found.organization,
        "organization": found.organization,
        "target_storage": None,
        "source_storage": None,
        "jobs": {
            "count": len(jobs),
            "completed": done,
            "validation": validation,
            "url": f"{base}/api/jobs?task_id={found.id}",
        },
        "labels": {"url": f"{base}/api/labels?task_id={found.id}"},
        "assignee_updated_date": None,
        "validation_mode": None,
        "consensus_enabled": False,
    }
    if found.data:
        value |= {"data_cloud_storage_id": None, "size": len(found.data.frames)}
    if found.data and found.data.frames:
        value |= {
            "data_chunk_size": CHUNK_SIZE,
            "data_original_chunk_type": "imageset",
            "data_compressed_chunk_type": "imageset",
            "image_quality": found.data.image_quality,
        }
    return value


def job(found: Job, world: World, base: str, viewer: User) -> Json:
    parent = world.tasks[found.task_id]
    in_project = world.projects.get(parent.project_id) if parent.project_id is not None else None
    return {
        "url": f"{base}/api/jobs/{found.id}",
        "id": found.id,
        "task_id": parent.id,
        "task_name": parent.name if world.may_see(viewer, parent) else None,
        "project_id": parent.project_id,
        "project_name": in_project.name if in_project else None,
        "assignee": found.assignee.short(base) if found.assignee else None,
        "guide_id": None,
        "dimension": "2d",
        "mode": "annotation",
        "media_type": "image",
        "bug_tracker": "" if in_project else None,
        "status": found.status,
        "stage": found.stage,
        "state": found.state,
        "frame_count": found.stop - found.start + 1,
        "start_frame": found.start,
        "stop_frame": found.stop,
        "data_chunk_size": CHUNK_SIZE,
        "data_compressed_chunk_type": "imageset",
        "data_original_chunk_type": "imageset",
        "created_date": at(found.created),
        "updated_date": at(found.updated),
        "issues": {"url": f"{base}/api/issues?job_id={found.id}", "count": 0},
        "labels": {"url": f"{base}/api/labels?job_id={found.id}"},
        "type": "annotation",
        "organization": parent.organization,
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": at(found.assigned),
        "parent_job_id": None,
        "replicas_count": 0,
        "consensus_replicas": 0,
    }


def meta(found: Task) -> Json:
    data = found.data
    assert data is not None
    return {
        "chapters": None,
        "chunks_updated_date": at(data.created),
        "chunk_size": CHUNK_SIZE,
        "size": len(data.frames),
        "image_quality": data.image_quality,
        "start_frame": 0,
        "stop_frame": len(data.frames) - 1,
        "frame_filter": "",
        "frames": [
            {
                "width": frame.width,
                "height": frame.height,
                "name": frame.name,
                "related_files": 0,
                "has_related_context": False,
            }
            for frame in data.frames
        ],
        "deleted_frames": data.deleted,
        "included_frames": None,
        "storage": "local",
        "cloud_storage_id": None,
    }


def background(found: Background) -> Json:
    expiry = found.finished + KEPT_FOR[found.status] if found.finished else None
    return {
        "status": found.status,
        "message": found.message,
        "id": found.id,
        "operation": {
            "type": "create:task",
            "target": "task",
            "project_id": found.project_id,
            "task_id": found.task_id,
            "job_id": None,
            "org_id": None,
            "format": None,
            "lightweight": None,
        },
        "progress": 0.0,
        "created_date": at(found.created),
        "started_date": at(found.started),
        "finished_date": at(found.finished),
        "expiry_date": at(expiry),
        "owner": {"id": found.owner.id, "username": found.owner.username},
        "result_url": None,
        "result_id": None,
    }
